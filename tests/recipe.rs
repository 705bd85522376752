//! The default recipe on images that look alike, the kind on which training used to collapse.

mod common;

use std::fs;
use std::path::Path;

use common::runs::numbers;
use common::{expect, s};
use engine::data::synthetic::{self, Domain};

/// Fourteen epochs of 320 images, ten steps of 32 each.
const EPOCHS: &str = "train.epochs=14";
const STEPS: usize = 140;

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The bits of a checkpoint's tensors.
fn tensors(run: &Path, step: usize) -> Vec<Vec<u8>> {
    let dir = run.join(format!("checkpoints/step-{step:08}"));
    let files = ["student", "teacher", "optimizer", "queue"];
    files.map(|stem| fs::read(dir.join(format!("{stem}.safetensors"))).unwrap()).into()
}

#[test]
fn the_defaults_learn_images_that_look_alike_and_resume_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    synthetic::write(dir.path(), Domain::Hands, [320, 160], 32, 7).unwrap();
    let (data, labelled) = (dir.path().join("train"), dir.path().join("test"));
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    let begin = |out| {
        let args = ["train", "--preset", "tiny", "--data", s(&data), "--out", out, "--seed", "3"];
        [&args[..], &[EPOCHS, "ckpt.every=20", "ckpt.keep=20", "log.every=20"]].concat()
    };
    let probe = ["--probe", s(&labelled), "probe.every=1000"];
    let (_, log) = expect(0, &[&begin(s(&whole))[..], &probe].concat());

    // Settings follow the images, and the log says so.
    let config: toml::Table =
        fs::read_to_string(whole.join("config.toml")).unwrap().parse().unwrap();
    assert!(config["views"]["crop_min"].as_float().unwrap() > 0.5, "{config}");
    for line in ["views.crop_min = 0.8, smaller crops resemble", "moco.queue = 128, at most half"] {
        assert!(log.contains(line), "no {line:?} in {log}");
    }

    let spread = numbers(&whole, "spread");
    assert_eq!(spread.len(), STEPS);
    assert!(spread[100..].iter().all(|spread| *spread >= 0.3), "{spread:?}");
    let status = json(&whole.join("status.json"));
    assert_eq!(status["state"], "done");
    let health = status["health"].as_str().unwrap();
    assert!(["healthy", "narrow"].contains(&health), "{status}");

    // Stopped, and gone on with without a word on settings.
    expect(0, &[&begin(s(&parts))[..], &["--threads", "1", "--max-steps", "12"]].concat());
    let resume = ["train", "--data", s(&data), "--out", s(&parts), "--resume", "--max-steps", "20"];
    expect(0, &resume);
    assert!(tensors(&whole, 20) == tensors(&parts, 20), "a resumed run differs");
}
