//! The whole job on the kernels, which the emulator runs: what a user does with `--device
//! emulator`, from outside.
#![cfg(feature = "emulator")]

mod common;

use std::fs;
use std::path::Path;

use common::{expect, images, s};
use serde_json::Value;

const SMALL: [&str; 6] = [
    "train.batch=4",
    "train.epochs=1",
    "train.bn_group=0",
    "moco.queue=12",
    "moco.hidden=16",
    "log.every=1",
];

/// `engine train` of preset tiny, ended after so many steps.
fn train(device: &str, data: &Path, out: &Path, steps: &str, more: &[&str]) -> String {
    let mut args = vec!["train", "--device", device, "--preset", "tiny", "--data", s(data)];
    args.extend(["--out", s(out), "--max-steps", steps]);
    args.extend(more);
    args.extend(SMALL);
    expect(0, &args).1
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_quickstart_runs_through() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("quick");
    let args = ["quickstart", "--device", "emulator", "--scale", "0.001", "--json", "--out"];
    let (json, log) = expect(0, &[&args[..], &[s(&out)]].concat());
    let found: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(found["trained"]["steps"], 2);
    assert_eq!(found["won"].as_array().unwrap().len(), 8, "{json}");
    assert!(found["exported"]["max_rel"].as_f64().unwrap() < 1e-4, "{json}");
    assert!(log.contains("emulator") && log.contains("bf16"), "{log}");
    for file in ["report.html", "winner/model.safetensors", "winner/parity.json"] {
        assert!(out.join(file).exists(), "{file}");
    }
}

#[test]
fn a_run_goes_on_on_another_device_and_its_search_ranks_alike() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 2, 8);
    let run = dir.path().join("run");
    train("cpu", &data, &run, "2", &[]);
    let log = train("emulator", &data, &run, "3", &["--resume"]);
    assert!(log.contains("continuing from") && log.contains("bf16"), "{log}");
    let steps: Vec<Value> = lines(&run.join("metrics.jsonl"));
    assert_eq!(steps.len(), 3);
    assert!(steps.iter().all(|s| s["loss"].as_f64().unwrap() > 0.0));

    let archs =
        ["s8-w8.16.32.64-d1.1.2.1", "s16-w16.32.64.128-d2.3.5.2", "s16-w8.24.48.96-d1.2.4.1"];
    let ranks = |device: &str, precision: &str| -> Vec<String> {
        let out = dir.path().join(format!("search-{device}-{precision}"));
        let mut args = vec!["search", "--ckpt", s(&run), "--data", s(&data), "--task", "det-fpn"];
        args.extend(["--images", "4", "--bn-images", "4", "--out", s(&out)]);
        args.extend(["--device", device, "--precision", precision]);
        args.extend(archs.iter().flat_map(|arch| ["--arch", arch]));
        expect(0, &args);
        let mut found = lines(&out.join("candidates.jsonl"));
        found.sort_by(|a, b| b["score"].as_f64().unwrap().total_cmp(&a["score"].as_f64().unwrap()));
        found.iter().map(|c| c["arch"].as_str().unwrap().to_owned()).collect()
    };
    let expected = ranks("cpu", "fp32");
    assert_eq!(expected.len(), archs.len());
    assert_eq!(ranks("emulator", "fp32"), expected);
    assert_eq!(ranks("emulator", "bf16"), expected);
}

#[test]
fn memory_is_planned_before_the_first_step() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 1, 8);
    let args = ["train", "--device", "emulator", "--data", s(&data), "--dry-run"];
    // On a machine with less than 5 TB.
    let too_large = ["--preset", "data", "train.batch=65536"];
    let (_, error) = expect(5, &[&args[..], &too_large].concat());
    assert!(error.contains("the largest that fits is train.batch="), "{error}");

    let small = [&["--preset", "tiny", "--json"], &SMALL[..]].concat();
    let (json, _) = expect(0, &[&args[..], &small].concat());
    let plan: Value = serde_json::from_str(&json).unwrap();
    let planned = plan["planned_bytes"].as_u64().unwrap();
    let run = dir.path().join("run");
    let log = train("emulator", &data, &run, "2", &[]);
    assert!(log.contains("memory"), "{log}");
    let steps = lines(&run.join("metrics.jsonl"));
    assert_eq!(steps.len(), 2);
    for step in steps {
        let used = step["device_mem_bytes"].as_u64().unwrap();
        assert!(used <= planned && used > planned / 2, "{used} of {planned}");
    }
}
