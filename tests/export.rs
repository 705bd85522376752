//! `engine export` as a user runs it.

mod common;
mod tiny_run;

use std::fs;
use std::path::{Path, PathBuf};

use common::{expect, s};
use engine::cx::Cx;

const ARCH: &str = "s8-w8.24.48.96-d2.1.3.1";

/// A run's folder and images, in a folder that goes with the test.
fn setting() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (run, images) = (dir.path().join("run"), dir.path().join("images"));
    tiny_run::write_images(&images);
    tiny_run::write_checkpoint(&Cx::for_tests(), &run, 1);
    (dir, run, images)
}

fn export<'a>(run: &'a Path, images: &'a Path, out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let mut args =
        vec!["export", "--ckpt", s(run), "--bn-data", s(images), "--out", s(out), "--quiet"];
    if !more.contains(&"--arch") {
        args.extend(["--arch", ARCH]);
    }
    args.extend(more);
    args
}

#[test]
fn an_export_holds_what_is_promised_and_computes_the_same() {
    let (dir, run, images) = setting();
    let out = dir.path().join("deep/er/export");
    let (stdout, _) = expect(0, &export(&run, &images, &out, &["--json"]));
    let said: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&said["arch"], &said["parity"]["ok"]), (&ARCH.into(), &true.into()));

    let json = |name: &str| -> serde_json::Value {
        serde_json::from_str(&fs::read_to_string(out.join(name)).unwrap()).unwrap()
    };
    let config = json("config.json");
    assert_eq!(config["widths"], serde_json::json!([8, 24, 48, 96]));
    assert_eq!(config["model_args"]["layers"], serde_json::json!([2, 1, 3, 1]));
    // timm's ResNet has another stem: nothing here may look as if it could build this net.
    assert!(config.get("architecture").is_none() && config.get("pretrained_cfg").is_none());
    assert_eq!(config["model_args"]["stem_kernel"], 3);
    assert_eq!(config["bn_images"], 40);
    let (cost, _) = expect(0, &["space", "cost", ARCH, "--preset", "tiny", "--json"]);
    let cost: serde_json::Value = serde_json::from_str(&cost).unwrap();
    assert_eq!((&config["macs"], &config["params"]), (&cost["macs"], &cost["params"]));
    let parity = json("parity.json");
    for comparison in ["reloaded", "folded"] {
        for feature in ["c2", "c3", "c4", "c5", "z"] {
            let rel = parity[comparison]["features"][feature]["max_rel"].as_f64().unwrap();
            assert!(rel <= 1e-4, "{comparison} {feature}: {rel}");
        }
    }
    assert!(fs::read_to_string(out.join("README.md")).unwrap().contains("from model import load"));
    assert!(out.join("model.py").is_file());

    // The same net, whether it is read from the run or from the export.
    let embed = |more: &[&str], file: &Path| {
        let mut args = vec!["embed", "--data", s(&images), "--features", "c5,z", "--quiet"];
        args.extend(["--out", s(file)]);
        args.extend(more);
        expect(0, &args);
        engine::files::read_weights(file).unwrap().0
    };
    let inside = embed(&["--ckpt", s(&run), "--arch", ARCH, "--seed", "1"], &dir.path().join("a"));
    let outside = embed(&["--model", s(&out)], &dir.path().join("b"));
    for name in ["c5", "z"] {
        let [a, b] = [&inside, &outside].map(|found| &found[name].1);
        assert!(a.len() == b.len() && a.iter().chain(b).all(|x| x.is_finite()), "{name}");
        let worst = a.iter().zip(b).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
        let scale = a.iter().fold(0.0_f32, |m, a| m.max(a.abs()));
        assert!(scale > 0.0 && worst <= 1e-4 * scale, "{name}: {worst} of {scale}");
    }
}

#[test]
fn layouts_are_added_where_they_can_hold_the_net() {
    let (dir, run, images) = setting();
    let out = dir.path().join("export");
    for (layout, reason) in [
        ("transformers", "3×3 convolution of stride 2 without max-pool"),
        ("onnx,timm", "--layout timm cannot hold s8-w8.24.48.96-d2.1.3.1"),
        ("onxx", "onnx"),
    ] {
        let (_, error) = expect(2, &export(&run, &images, &out, &["--layout", layout]));
        assert!(error.contains(reason), "{error}");
        assert!(!out.exists());
    }
    let (_, error) = expect(2, &export(&run, &images, &out, &["--onnx-normalise"]));
    assert!(error.contains("--layout onnx"), "{error}");

    let layouts = ["--layout", "torchvision", "--layout", "onnx,onnx", "--onnx-normalise"];
    let (stdout, _) = expect(0, &export(&run, &images, &out, &layouts));
    assert!(stdout.contains("onnx") && stdout.contains("pool"), "{stdout}");
    let parity = fs::read_to_string(out.join("parity.json")).unwrap();
    let parity: serde_json::Value = serde_json::from_str(&parity).unwrap();
    for feature in ["c2", "c3", "c4", "c5", "pool", "z"] {
        let rel = parity["layouts"]["onnx"]["features"][feature]["max_rel"].as_f64().unwrap();
        assert!(rel > 0.0 && rel <= 1e-4, "{feature}: {rel}");
    }
    let readme = fs::read_to_string(out.join("README.md")).unwrap();
    assert!(readme.contains("InferenceSession(\"model.onnx\")"), "{readme}");
    assert!(readme.contains("the graph subtracts the mean"), "{readme}");
    // The same file whatever the number of threads; --overwrite takes all of it away.
    let file = fs::read(out.join("model.onnx")).unwrap();
    let again = [&layouts[..], &["--overwrite", "--threads", "2"]].concat();
    expect(0, &export(&run, &images, &out, &again));
    assert_eq!(fs::read(out.join("model.onnx")).unwrap(), file);
    expect(0, &export(&run, &images, &out, &["--overwrite"]));
    assert!(!out.join("model.onnx").exists());
}

#[test]
fn threads_do_not_change_an_export() {
    let (dir, run, images) = setting();
    let weights = |threads: &str| {
        let out = dir.path().join(threads);
        expect(0, &export(&run, &images, &out, &["--threads", threads]));
        fs::read(out.join("model.safetensors")).unwrap()
    };
    assert_eq!(weights("1"), weights("3"));
}

#[test]
fn wrong_requests_end_with_the_right_code_and_leave_nothing() {
    let (dir, run, images) = setting();
    let out = dir.path().join("export");
    let (_, error) = expect(7, &export(&run, &images, &out, &["--tolerance", "0"]));
    assert!(error.contains("not the same net"), "{error}");
    let (_, error) =
        expect(2, &export(&run, &images, &out, &["--arch", "s8-w8.24.48.999-d1.1.1.1"]));
    assert!(error.contains("width of stage 4"), "{error}");
    expect(2, &export(&run, &images, &out, &["--tolerance", "-1"]));
    expect(3, &export(&run, &dir.path().join("nowhere"), &out, &[]));
    expect(3, &export(&images, &images, &out, &[]));
    let names = |dir: &Path| {
        let entries = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name());
        let mut names: Vec<_> = entries.collect();
        names.sort();
        names
    };
    assert_eq!(names(dir.path()), ["images", "run"]);

    let (_, error) = expect(2, &export(&run, &images, &images, &["--overwrite"]));
    assert!(error.contains("not an export"), "{error}");
    expect(0, &export(&run, &images, &out, &[]));
    expect(2, &export(&run, &images, &out, &[]));
    expect(0, &export(&run, &images, &out, &["--overwrite"]));
    assert_eq!(names(dir.path()), ["export", "images", "run"]);
}
