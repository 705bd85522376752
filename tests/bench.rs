//! The program `bench` from outside.

use std::process::{Command, Output};

use serde_json::Value;

fn bench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bench")).args(args).output().unwrap()
}

/// The only work that a filter lets through, counted.
fn counted(filter: &str) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("counts.json");
    let args = ["kernels", "--device", "emulator", "--filter", filter, "--json"];
    let out = bench(&[&args[..], &[file.to_str().unwrap()]].concat());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let counts: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(counts["device"], "emulator");
    assert_eq!(counts["benchmarks"].as_array().unwrap().len(), 1, "{counts}");
    counts["benchmarks"][0].clone()
}

/// The ReLU of 2×112×112×64 values reads and writes each once, sixteen bytes a thread: a warp's
/// request is 16 sectors.
#[test]
fn counts_are_those_worked_out_by_hand() {
    let relu = counted("relu/stem/forward/f32");
    let bytes = 2 * 4 * (2 * 112 * 112 * 64);
    assert_eq!((&relu["op"], &relu["launches"]), (&"relu".into(), &1.into()));
    assert_eq!((&relu["bytes"], &relu["bytes_floor"]), (&bytes.into(), &bytes.into()));
    assert_eq!(
        (&relu["sectors"], &relu["requests"]),
        (&(bytes / 32).into(), &(bytes / 512).into())
    );
    assert_eq!(relu["bank_conflicts"], 0);
}

/// A 1×1 convolution of 256 pixels from 64 to 64 channels in bf16 takes two blocks of 128 pixels.
/// Each brings its pixels and all of the weight to shared memory once, by asynchronous copies.
#[test]
fn what_asynchronous_copies_read_counts_once() {
    let conv = counted("conv2d/1x1 stride 1, .* 1x16x16x64, .*/forward/bf16");
    let (pixels, weight, outputs) = (2 * 256 * 64, 2 * 64 * 64, 2 * 256 * 64);
    assert_eq!(conv["bytes"], pixels + 2 * weight + outputs, "{conv}");
    // The weight is stored for 80 output channels, of which 64 are used.
    assert_eq!(conv["bytes_floor"], pixels + weight + outputs);
    assert_eq!(conv["flops"], 2 * 256 * 64 * 64);
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

/// On the CPU the loader's bench says what it always said; a device adds its own part.
#[test]
fn the_loader_is_timed_alone_and_with_a_device() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..5 {
        let picture =
            image::RgbImage::from_fn(20 + i, 16, |x, y| image::Rgb([x as u8, y as u8, 9]));
        picture.save(dir.path().join(format!("{i}.png"))).unwrap();
    }
    let file = dir.path().join("loader.json");
    let timed = |device: &str| -> (String, Value) {
        let (data, json) = (dir.path().to_str().unwrap(), file.to_str().unwrap());
        let args = ["loader", "--data", data, "--device", device, "--json", json];
        let out = bench(&[&args[..], &["--resolution", "8", "--seconds", "0.1"]].concat());
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let json = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        (String::from_utf8(out.stdout).unwrap(), json)
    };
    let (text, json) = timed("cpu");
    assert_eq!((text.lines().count(), json.get("on_device")), (4, None), "{text} {json}");
    let positive = |json: &Value, key: &str| assert!(json[key].as_f64() > Some(0.0), "{json}");
    for key in ["decode_per_s", "augment_per_s", "both_per_s"] {
        positive(&json, key);
    }
    let (text, json) = timed("emulator");
    assert!(text.lines().count() == 10 && text.contains("tell nothing about a GPU"), "{text}");
    let on_device = &json["on_device"];
    for key in ["decode_per_s", "copy_per_s", "views_per_s", "together_per_s"] {
        positive(on_device, key);
    }
    assert_eq!((&on_device["device"], &on_device["batch"]), (&"emulator".into(), &16.into()));
    positive(&json, "both_per_s");
}
