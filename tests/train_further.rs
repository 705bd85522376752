//! Training that goes on: with more epochs than at first, or from the weights of another
//! run, an export or a file.

mod common;

use std::fs;
use std::path::Path;

use common::runs::{assert_same_weights, numbers, start_and_kill, steps_in_metrics, train};
use common::{expect, images, s};

/// So few images at such a rate need not train well.
const GUARD_OFF: &str = "guard.collapse=false";

/// As [`train`], of so many epochs (of six steps).
fn train_epochs<'a>(
    data: &'a Path,
    out: &'a Path,
    epochs: &'a str,
    more: &[&'a str],
) -> Vec<&'a str> {
    let mut args = train(data, out, more);
    args.push(epochs);
    args
}

#[test]
fn a_finished_run_goes_on_with_more_epochs() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    let out = dir.path().join("run");
    let epochs = |epochs, more: &[&str]| {
        let words = ["train.lr=0.01", "train.warmup_epochs=0.5", GUARD_OFF];
        expect(0, &train_epochs(&data, &out, epochs, &[more, &words].concat()))
    };
    epochs("train.epochs=1", &[]);
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    assert!(read("config.toml").contains("epochs = 1"));
    let (_, log) = epochs("train.epochs=2", &["--resume"]);
    let told = "12 steps instead of 6; from step 6";
    assert!(log.contains(told) && read("train.log").contains(told), "{log}");
    assert!(log.contains("from 0.000000 (old schedule) to 0.007500"), "{log}");
    assert_eq!(steps_in_metrics(&out), (0..12).collect::<Vec<_>>());
    assert!(read("config.toml").contains("epochs = 2"));
    assert!(read("status.json").contains("\"steps\": 12"));
    // Warm-up of three steps, then the old cosine up to the sixth step, then the new one.
    let lr = |step, steps| engine::optim::Schedule::cosine(0.01, 3).at(step, steps);
    let expected: Vec<f64> = (0..12).map(|s| lr(s, if s < 6 { 6 } else { 12 })).collect();
    assert_eq!(numbers(&out, "lr"), expected);

    // Once more, from a checkpoint in the middle.
    let (_, log) = epochs("train.epochs=3", &["--resume", "--max-steps", "14"]);
    assert!(log.contains("18 steps instead of 12"), "{log}");
    epochs("train.epochs=4", &["--resume"]);
    assert_eq!(steps_in_metrics(&out), (0..24).collect::<Vec<_>>());
    let state: serde_json::Value =
        serde_json::from_str(&read("checkpoints/last/state.json")).unwrap();
    let expected = serde_json::json!([
        {"step": 6, "from": 6, "to": 12}, {"step": 12, "from": 12, "to": 18},
        {"step": 14, "from": 18, "to": 24},
    ]);
    assert_eq!(state["extended"], expected);
    assert_eq!(state["config"]["train.epochs"].as_str().unwrap().parse(), Ok(4.0));
    expect(0, &["report", s(&out)]);
    assert!(read("report.html").contains("At step 14 the run was extended from 18 to 24 steps"));

    let shorter = ["--resume", "train.lr=0.01", "train.warmup_epochs=0.5"];
    let (_, stderr) = expect(6, &train_epochs(&data, &out, "train.epochs=3", &shorter));
    assert!(stderr.contains("train.epochs is 3") && stderr.contains("may only grow"), "{stderr}");
    assert!(read("config.toml").contains("epochs = 4"));
}

#[test]
fn an_extended_run_that_is_killed_resumes_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    for (epochs, kill_at) in [("train.epochs=1", 2), ("train.epochs=2", 8), ("train.epochs=3", 14)]
    {
        expect(0, &train_epochs(&data, &whole, epochs, &["--resume", "--threads", "2", GUARD_OFF]));
        let args = train_epochs(&data, &killed, epochs, &["--resume", "--threads", "1", GUARD_OFF]);
        start_and_kill(&args, &killed, kill_at);
        expect(0, &args);
    }
    assert_same_weights(&whole, &killed);
    assert_eq!(steps_in_metrics(&killed), (0..18).collect::<Vec<_>>());
    assert_eq!(numbers(&killed, "lr"), numbers(&whole, "lr"));
}

/// The tensors of a file of a run's checkpoint.
fn weights(run: &Path, checkpoint: &str, stem: &str) -> engine::files::Named {
    let path = run.join(format!("checkpoints/{checkpoint}/{stem}.safetensors"));
    engine::files::read_safetensors(&path).unwrap().0
}

#[test]
fn a_run_starts_from_another_ones_weights() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    expect(0, &train(&data, &first, &["--max-steps", "2"]));
    let init = ["--init", s(&first), "--max-steps", "1"];
    let (_, log) = expect(0, &train(&data, &second, &init));
    assert!(
        log.contains("weights to start from") && log.contains("0 left as initialised"),
        "{log}"
    );
    let trained = weights(&first, "last", "student");
    for stem in ["student", "teacher"] {
        assert!(weights(&second, "step-00000000", stem) == trained, "{stem}");
    }
    let state = fs::read_to_string(second.join("checkpoints/last/state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    let path = state["init"]["path"].as_str().unwrap();
    assert!(path.ends_with("first/checkpoints/step-00000002/student.safetensors"), "{path}");
    let digest = blake3::hash(&fs::read(path).unwrap()).to_hex().to_string();
    assert_eq!(state["init"]["blake3"], digest.as_str());
    assert!(fs::read_to_string(second.join("cmd.txt")).unwrap().contains("--init"));

    // A run that is resumed has its own weights.
    let more = ["--init", "nowhere", "--resume", "--max-steps", "2"];
    let (_, log) = expect(0, &train(&data, &second, &more));
    assert!(log.contains("--init nowhere is ignored"), "{log}");
    let state = fs::read_to_string(second.join("checkpoints/last/state.json")).unwrap();
    assert!(state.contains(&digest));
}

#[test]
fn a_run_starts_from_an_export() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    let [first, second, fresh, export] =
        ["first", "second", "fresh", "export"].map(|name| dir.path().join(name));
    expect(0, &train(&data, &first, &["--max-steps", "2"]));
    let arch = "s8-w16.24.32.96-d1.2.3.1";
    let subnet = ["export", "--ckpt", s(&first), "--arch", arch, "--bn-data", s(&data)];
    expect(0, &[&subnet[..], &["--out", s(&export), "--bn-images", "16"]].concat());
    let (_, log) = expect(0, &train(&data, &second, &["--init", s(&export), "--max-steps", "1"]));
    assert!(log.contains("running statistic(s) of batch norms are ignored"), "{log}");
    assert!(log.contains("tensor(s) are left as initialised"), "{log}");
    expect(0, &train(&data, &fresh, &["--max-steps", "1"]));

    let small = engine::files::read_safetensors(&export.join("model.safetensors")).unwrap().0;
    let (now, before) =
        (weights(&second, "step-00000000", "student"), weights(&fresh, "step-00000000", "student"));
    let mut kept = 0;
    for (name, (shape, values)) in &now {
        let (_, initial) = &before[name];
        let Some((given, from)) = small.get(name) else {
            assert_eq!(values, initial, "{name}");
            kept += 1;
            continue;
        };
        // Rows of [O, I·kh·kw]; vectors have rows of one number.
        let row = |shape: &[usize]| shape.iter().skip(1).product::<usize>();
        let (long, short) = (row(shape), row(given));
        for (i, (now, before)) in values.chunks(long).zip(initial.chunks(long)).enumerate() {
            let given = from.chunks(short).nth(i).unwrap_or_default();
            let taken = given.len();
            assert_eq!(now[..taken], *given, "{name} row {i}");
            assert_eq!(now[taken..], before[taken..], "{name} row {i}");
        }
    }
    // Blocks that the subnet has not.
    assert!(kept > 0 && kept < now.len(), "{kept} of {}", now.len());
}

#[test]
fn weights_that_do_not_fit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    let (out, file) = (dir.path().join("run"), dir.path().join("other.safetensors"));
    let tensor = vec![("encoder.weight".to_owned(), vec![2], vec![1.0, 2.0])];
    engine::files::write_safetensors(&file, &tensor, &[]).unwrap();
    let (_, stderr) = expect(3, &train(&data, &out, &["--init", s(&file)]));
    for part in ["none of its 1 tensor(s)", "conv1.weight", "encoder.weight"] {
        assert!(stderr.contains(part), "{stderr}");
    }
    expect(3, &train(&data, &out, &["--init", s(&file), "--dry-run"]));
    let (_, stderr) = expect(3, &train(&data, &out, &["--init", s(dir.path())]));
    assert!(stderr.contains("expected a safetensors file"), "{stderr}");
    assert!(!out.exists());
}
