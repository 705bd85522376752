//! The program killed at every change that it makes to the disk, and a disk that is full from any
//! of them on: each leaves a state from which the same command leads to the result of a run that
//! nothing happened to.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use serde_json::Value;

use common::runs::train;
use common::{engine, expect, images, s};

/// A command that writes into a folder.
struct Scenario<'a> {
    /// What the folder holds before, if anything.
    before: Option<&'a Path>,
    /// The command, given the folder.
    args: &'a (dyn Fn(&Path) -> Vec<String> + Sync),
    /// Exit codes besides 0 of the command that is repeated, where what it makes is there already.
    done: Option<i32>,
    /// What the folder holds, but for times.
    result: &'a (dyn Fn(&Path) -> BTreeMap<String, String> + Sync),
}

impl Scenario<'_> {
    fn run(&self, out: &Path, fault: Option<&str>) -> Output {
        let args = (self.args)(out);
        let mut command = engine(&args.iter().map(String::as_str).collect::<Vec<_>>());
        if let Some(fault) = fault {
            command.env("ENGINE_FAULT", fault);
        }
        command.output().unwrap()
    }

    fn place(&self, dir: &Path, name: &str) -> PathBuf {
        let place = dir.join(name);
        fs::create_dir(&place).unwrap();
        let out = place.join("out");
        if let Some(before) = self.before {
            copy(before, &out);
        }
        out
    }

    /// Tries every change with every kind of fault. `between` looks at what a fault left.
    fn try_all(&self, kinds: &[&str], between: impl Fn(&Path, &str) + Sync) -> usize {
        let dir = tempfile::tempdir().unwrap();
        let trace = dir.path().join("trace");
        let out = self.place(dir.path(), "whole");
        let whole = self.run(&out, Some(&format!("trace@{}", s(&trace))));
        assert!(whole.status.success(), "{whole:?}");
        let expected = (self.result)(&out);
        let changes = fs::read_to_string(&trace).unwrap();
        let changes: Vec<&str> = changes.lines().collect();
        assert!(!changes.is_empty(), "nothing was written");
        let full_disks = AtomicUsize::new(0);
        kinds.par_iter().for_each(|kind| {
            // A full disk takes the same way wherever it fills up; a kill has as many as there are
            // changes.
            let every = if *kind == "kill" { 1 } else { 5 };
            let tried = changes.par_iter().enumerate().filter(|(i, _)| i % every == 0);
            tried.for_each(|(i, change)| {
                let what = format!("{kind}@{}", i + 1);
                let out = self.place(dir.path(), &what);
                let hit = self.run(&out, Some(&what));
                let at = format!("{what} ({change})\n{hit:?}");
                if *kind == "kill" {
                    use std::os::unix::process::ExitStatusExt;
                    assert_eq!(hit.status.signal(), Some(9), "{at}");
                } else {
                    // Some changes need no space, and the last ones may be past all that do.
                    assert!(matches!(hit.status.code(), Some(0 | 5)), "{at}");
                    let was_noticed = hit.status.code() == Some(5);
                    full_disks.fetch_add(was_noticed.into(), Ordering::Relaxed);
                }
                between(&out, &at);
                let again = self.run(&out, None);
                let code = again.status.code();
                assert!(
                    code == Some(0) || code.is_some() && code == self.done,
                    "{at}\nthen {again:?}"
                );
                let found = (self.result)(&out);
                for (name, expected) in &expected {
                    assert_eq!(
                        found.get(name),
                        Some(expected),
                        "{name} after {at}\nthen {again:?}"
                    );
                }
                assert_eq!(found.len(), expected.len(), "{found:?} after {at}");
                assert_eq!(leftovers(&out), Vec::<PathBuf>::new(), "{at}");
            });
        });
        let was_noticed = full_disks.into_inner() > 0;
        assert_eq!(was_noticed, kinds.contains(&"full"), "whether a full disk was an error");
        changes.len()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, to) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &to);
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path()).unwrap(), to).unwrap();
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// What was being written and is no longer of use.
fn leftovers(out: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(out) else { return Vec::new() };
    let paths = entries.map(|e| e.unwrap().path());
    paths
        .flat_map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let mut found = if path.is_dir() { leftovers(&path) } else { Vec::new() };
            if name.ends_with(".part") || name.contains("clearing") {
                found.push(path);
            }
            found
        })
        .collect()
}

/// The files of a folder as text, with `name` in front.
fn files(dir: &Path, names: &[&str]) -> BTreeMap<String, String> {
    let text = |name: &str| {
        fs::read(dir.join(name)).map_or("absent".into(), |b| blake3::hash(&b).to_hex().to_string())
    };
    names.iter().map(|name| ((*name).to_owned(), text(name))).collect()
}

/// A run's weights, what its metrics say of each step, and its checkpoints.
fn trained(run: &Path) -> BTreeMap<String, String> {
    let mut found = files(
        run,
        &["student", "teacher", "optimizer", "queue"]
            .map(|stem| format!("checkpoints/last/{stem}.safetensors"))
            .each_ref()
            .map(String::as_str),
    );
    found.insert("metrics".into(), losses(run));
    let mut steps: Vec<String> = fs::read_dir(run.join("checkpoints"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    steps.sort();
    found.insert("checkpoints".into(), steps.join(" "));
    let status: Value = read(&run.join("status.json"));
    found.insert("state".into(), format!("{} {}", status["state"], status["step"]));
    found
}

fn losses(run: &Path) -> String {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    let line = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap();
        format!("{} {} {}\n", value["step"], value["loss"], value["lr"])
    };
    text.lines().map(line).collect()
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn owned(args: Vec<&str>) -> Vec<String> {
    args.into_iter().chain(["--threads", "1", "-q"]).map(str::to_owned).collect()
}

/// Images and a run on them: six steps, with checkpoints at 0, 3 and 6.
fn run_on(dir: &Path) -> (PathBuf, PathBuf) {
    let data = images(dir, 2, 12);
    let run = dir.join("run");
    expect(0, &train(&data, &run, &["-q"]));
    (data, run)
}

#[test]
fn training() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 2, 12);
    let args = |out: &Path| owned(train(&data, out, &["--resume"]));
    let scenario = Scenario { before: None, args: &args, done: None, result: &trained };
    let changes = scenario.try_all(&["kill", "full"], |_, _| {});
    assert!(changes > 80, "{changes}");
}

#[test]
fn going_on_from_an_older_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (data, run) = run_on(dir.path());
    let old = losses(&run);
    let more = |out: &Path| {
        let older = out.join("checkpoints/step-00000003");
        let older = if older.exists() { older } else { run.join("checkpoints/step-00000003") };
        owned(train(&data, out, &["--resume", s(&older), "train.lr=0.005"]))
    };
    let scenario = Scenario { before: Some(&run), args: &more, done: None, result: &trained };
    let changes = scenario.try_all(&["kill"], |out, at| {
        // A process that is told nothing goes on with one run or the other, and mixes none.
        let auto = out.with_file_name("auto");
        copy(out, &auto);
        expect(0, &train(&data, &auto, &["--resume", "--threads", "1", "-q"]));
        let (found, steps) = (losses(&auto), 6);
        assert_eq!(found.lines().count(), steps, "{found} after {at}");
        let is_old = found == old;
        let is_new = found.lines().skip(3).zip(old.lines().skip(3)).all(|(a, b)| a != b);
        assert!(is_old || is_new, "{found} after {at}");
        fs::remove_dir_all(auto).unwrap();
    });
    assert!(changes > 30, "{changes}");
}

#[test]
fn overwriting() {
    let dir = tempfile::tempdir().unwrap();
    let (data, run) = run_on(dir.path());
    fs::write(run.join("thesis.txt"), "mine").unwrap();
    fs::create_dir(run.join("eval")).unwrap();
    fs::write(run.join("eval/old.json"), "{}").unwrap();
    let args = |out: &Path| owned(train(&data, out, &["--overwrite", "--seed", "3"]));
    let result = |out: &Path| {
        let mut found = trained(out);
        found.extend(files(out, &["thesis.txt", "eval/old.json"]));
        found
    };
    let scenario = Scenario { before: Some(&run), args: &args, done: None, result: &result };
    scenario.try_all(&["kill"], |out, at| {
        assert!(out.join("thesis.txt").exists(), "{at}");
    });
}

#[test]
fn search() {
    let dir = tempfile::tempdir().unwrap();
    let (data, run) = run_on(dir.path());
    let search = |out: &Path, flag: &[&str]| {
        let base = ["search", "--ckpt", s(&run), "--data", s(&data), "--task", "cls", "--force"];
        let rest = ["--budget", "3M..5M", "--samples", "3", "--images", "8", "--bn-images", "8"];
        owned([&base[..], &rest, &["--out", s(out)], flag].concat())
    };
    let result = |out: &Path| files(out, &["candidates.jsonl", "scores.f64", "winners.json"]);
    // A search that did not start cannot be resumed.
    let resumed = |out: &Path| {
        let started = out.join(".engine").exists();
        search(out, if started { &["--resume"] } else { &[] })
    };
    let scenario = Scenario { before: None, args: &resumed, done: None, result: &result };
    assert!(scenario.try_all(&["kill", "full"], |_, _| {}) > 10);
    let first = dir.path().join("first");
    assert!(scenario.run(&first, None).status.success());
    let overwritten = |out: &Path| search(out, &["--overwrite", "--seed", "5"]);
    let scenario =
        Scenario { before: Some(&first), args: &overwritten, done: None, result: &result };
    scenario.try_all(&["kill"], |_, _| {});
}

#[test]
fn export() {
    let dir = tempfile::tempdir().unwrap();
    let (data, run) = run_on(dir.path());
    let export = |out: &Path, arch: &str, flag: &[&str]| {
        let base = ["export", "--ckpt", s(&run), "--arch", arch, "--bn-data", s(&data)];
        let rest = ["--bn-images", "8", "--layout", "onnx", "--out", s(out)];
        owned([&base[..], &rest, flag].concat())
    };
    let names =
        ["model.safetensors", "config.json", "parity.json", "model.py", "README.md", "model.onnx"];
    let result = |out: &Path| files(out, &names);
    let small = "s8-w8.16.32.64-d1.1.2.1";
    let new = |out: &Path| export(out, small, &[]);
    let scenario = Scenario { before: None, args: &new, done: Some(2), result: &result };
    let whole = |out: &Path, at: &str| {
        // A folder that is there is whole.
        let found = result(out);
        let absent = found.values().filter(|v| *v == "absent").count();
        assert!(absent == 0 || absent == names.len(), "{found:?} after {at}");
    };
    assert!(scenario.try_all(&["kill", "full"], whole) > 10);
    let first = dir.path().join("first");
    assert!(scenario.run(&first, None).status.success());
    let other = |out: &Path| export(out, "s16-w16.32.64.128-d2.3.6.2", &["--overwrite"]);
    let scenario = Scenario { before: Some(&first), args: &other, done: None, result: &result };
    scenario.try_all(&["kill"], |out, at| {
        whole(out, at);
        assert!(out.join("config.json").exists(), "{at}");
    });
}

#[test]
fn evaluation() {
    let dir = tempfile::tempdir().unwrap();
    let (data, run) = run_on(dir.path());
    let arch = "s8-w8.16.32.64-d1.1.2.1";
    let args = |out: &Path| {
        let base = ["eval", "knn", "--ckpt", s(out), "--arch", arch, "--bn-images", "8"];
        owned([&base[..], &["--data", s(&data), "--test-data", s(&data)]].concat())
    };
    let result = |out: &Path| {
        let name = format!("eval/knn-images-{arch}-step-00000006.json");
        files(out, &[name.as_str()])
    };
    let scenario = Scenario { before: Some(&run), args: &args, done: None, result: &result };
    let cleaned = |out: &Path, _: &str| {
        // What a killed process was writing stays until the run goes on; nothing reads it.
        for path in leftovers(out) {
            fs::remove_file(path).unwrap();
        }
    };
    assert!(scenario.try_all(&["kill", "full"], cleaned) > 2);
}
