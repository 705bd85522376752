//! Small training runs.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use super::{engine, s};

/// Settings of a run of twelve steps that take no time.
const SMALL: [&str; 9] = [
    "train.batch=8",
    "train.epochs=2",
    "train.bn_group=4",
    "train.accum=2",
    "moco.queue=24",
    "moco.hidden=32",
    "ckpt.every=3",
    "ckpt.keep=2",
    "log.every=1",
];

/// `engine train` of preset tiny on `data` into `out`, with more arguments, which overrule
/// [`SMALL`].
pub(crate) fn train<'a>(data: &'a Path, out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["train", "--preset", "tiny", "--data", s(data), "--out", s(out)];
    args.extend(SMALL);
    args.extend(more);
    args
}

fn files_of_last(run: &Path) -> Vec<(String, Vec<u8>)> {
    ["student", "teacher", "optimizer", "queue"]
        .map(|stem| {
            let path = run.join(format!("checkpoints/last/{stem}.safetensors"));
            (stem.to_owned(), fs::read(&path).unwrap())
        })
        .into()
}

/// Fails unless the newest checkpoints of two runs hold the same bits.
pub(crate) fn assert_same_weights(a: &Path, b: &Path) {
    for ((stem, x), (_, y)) in files_of_last(a).into_iter().zip(files_of_last(b)) {
        assert!(x == y, "{stem} differs between {} and {}", a.display(), b.display());
    }
}

/// The steps that a run's metrics hold, in order.
pub(crate) fn steps_in_metrics(run: &Path) -> Vec<u64> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    let whole = text.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
    whole.map(|v| v["step"].as_u64().unwrap()).collect()
}

/// A number of each step's line of metrics.
pub(crate) fn numbers(run: &Path, name: &str) -> Vec<f64> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let value =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()[name].as_f64();
    text.lines().map(|line| value(line).unwrap()).collect()
}

/// Starts a run and kills it after some steps. Fails if it ended by itself before.
pub(crate) fn start_and_kill(args: &[&str], run: &Path, steps: usize) {
    kill(start_and_wait(args, run, steps));
}

/// Kills a process. Fails if it ended by itself before.
pub(crate) fn kill(mut child: Child) {
    // An error says that it has ended, and so does its status.
    let _ = child.kill();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(9), "it ended before it was killed: {status}");
}

/// Starts a run and waits until it has done some steps (or ended).
pub(crate) fn start_and_wait(args: &[&str], run: &Path, steps: usize) -> Child {
    let child = engine(args).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    wait_for(child, || steps_in_metrics(run).len() >= steps)
}

fn wait_for(mut child: Child, done: impl Fn() -> bool) -> Child {
    while !done() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    child
}
