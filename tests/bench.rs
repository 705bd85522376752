//! The program `bench` from outside.

use std::process::{Command, Output};

use serde_json::Value;

fn bench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bench")).args(args).output().unwrap()
}

/// The ReLU of 2×112×112×64 values reads and writes each once, sixteen bytes a thread: a warp's
/// request is 16 sectors.
#[test]
fn counts_are_those_worked_out_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("counts.json");
    let args = ["kernels", "--device", "emulator", "--filter", "relu/stem/forward/f32", "--json"];
    let out = bench(&[&args[..], &[file.to_str().unwrap()]].concat());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let counts: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(counts["device"], "emulator");
    let relu = &counts["benchmarks"][0];
    let bytes = 2 * 4 * (2 * 112 * 112 * 64);
    assert_eq!((&relu["op"], &relu["launches"]), (&"relu".into(), &1.into()));
    assert_eq!((&relu["bytes"], &relu["bytes_floor"]), (&bytes.into(), &bytes.into()));
    assert_eq!(
        (&relu["sectors"], &relu["requests"]),
        (&(bytes / 32).into(), &(bytes / 512).into())
    );
    assert_eq!(relu["bank_conflicts"], 0);
}

#[test]
fn checks_run_on_the_emulator_and_end_with_their_number() {
    let out = bench(&["check", "--device", "emulator", "--filter", "^relu/odd.shape"]);
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!((out.status.code(), text.as_str()), (Some(0), "5 passed, 0 failed, 1 skipped\n"));
}

#[test]
fn what_cannot_run_says_why() {
    for (args, code, expected) in [
        (&["kernels", "--device", "cpu"][..], 2, "--device emulator"),
        (&["kernels", "--device", "emulator", "--filter", "nothing"], 2, "--filter"),
        (&["check", "--filter", "nothing"], 2, "--filter"),
        (&["check", "--filter", "("], 2, "--filter"),
    ] {
        let out = bench(args);
        let text = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.contains(expected), "{args:?}: {text}");
    }
}
