//! Conformance of the ops, from their cases: every check of every op of the registry, on the CPU
//! and on the emulator. A test for each op on each of them, so that a failure has a name:
//! `cargo test --release --test ops conv2d`, `cargo test --release --test ops emulator::`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use engine::cx::Cx;
use engine::device::Backend;
use engine::device::emulator::{Emulator, IS_PRESENT, Races};
use engine::ops::check::run;
use engine::ops::{Check, Outcome, checks};
use libtest_mimic::{Arguments, Failed, Trial};

type Checks = Vec<(String, Check)>;

fn main() {
    let mut tests = vec![Trial::test("registry::holds_every_op_that_has_cases", no_op_is_missing)];
    for (op, checks) in by_op() {
        tests.push(Trial::test(format!("cpu::{op}"), move || conforms(&cpu(), checks)));
    }
    for (op, checks) in by_op() {
        let test = Trial::test(format!("emulator::{op}"), move || conforms(&emulator(), checks));
        tests.push(test.with_ignored_flag(!IS_PRESENT));
    }
    libtest_mimic::run(&Arguments::from_args(), tests).exit()
}

fn cpu() -> Cx {
    Cx::cpu(2).unwrap()
}

fn emulator() -> Cx {
    let emulator = Arc::new(Emulator::new(0).unwrap());
    emulator.check_races(Races::Everywhere);
    Cx::device(emulator, 1).unwrap()
}

/// The registry's checks, `op/case/check`, by op.
fn by_op() -> BTreeMap<String, Checks> {
    let mut ops: BTreeMap<String, Checks> = BTreeMap::new();
    for (name, check) in checks() {
        let (op, _) = name.split_once('/').unwrap();
        ops.entry(op.to_owned()).or_default().push((name, check));
    }
    ops
}

/// All checks pass. On a device finite differences are skipped, and nothing else is.
fn conforms(cx: &Cx, checks: Checks) -> Result<(), Failed> {
    let on_device = !matches!(cx.backend(), Backend::Cpu);
    let mut wrong = Vec::new();
    run(
        cx,
        checks,
        |_| true,
        |name, outcome| {
            let skips = on_device && name.ends_with("/finite differences");
            let expected = if skips { Outcome::Skipped } else { Outcome::Passed };
            match outcome {
                Ok(found) if *found == expected => {}
                Ok(found) => wrong.push(format!("{name}: {found:?}, expected {expected:?}")),
                Err(why) => wrong.push(format!("{name}: {why}")),
            }
        },
    );
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

/// An op is a folder with cases and a line in the registry: neither is forgotten.
fn no_op_is_missing() -> Result<(), Failed> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ops");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let folders: BTreeSet<String> = entries
        .filter(|entry| entry.path().join("cases.rs").exists())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    let ops: BTreeSet<String> = by_op().into_keys().collect();
    if folders == ops && !ops.is_empty() {
        return Ok(());
    }
    Err(format!("folders with cases: {folders:?}\nops with checks: {ops:?}").into())
}
