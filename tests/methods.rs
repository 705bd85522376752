//! What holds for every method: killed and resumed to the same bits, trained as a supernet and as a
//! net by itself, searched, exported; and identities between them.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::runs::{assert_same_weights, numbers, start_and_kill, steps_in_metrics, train};
use common::{expect, images, s};
use engine::files::read_safetensors;

const METHODS: [&str; 3] = ["byol", "ressl", "densecl"];
/// Small heads and queues.
const SMALL: [&str; 6] = [
    "byol.hidden=32",
    "byol.dim=16",
    "ressl.hidden=32",
    "ressl.queue=24",
    "train.bn_group=4",
    "moco.queue=24",
];

/// Arguments of a run of a method; more of them overrule [`SMALL`].
fn of<'a>(method: &'a str, data: &'a Path, out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = train(data, out, &["--method", method]);
    args.extend(SMALL);
    args.extend(more);
    args
}

#[test]
fn killed_and_resumed_ends_with_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    for method in METHODS {
        let [whole, killed] =
            ["whole", "killed"].map(|name| dir.path().join(format!("{method} {name}")));
        expect(0, &of(method, &data, &whole, &["--threads", "2"]));
        for steps in [2, 7] {
            let args = of(method, &data, &killed, &["--threads", "1", "--resume", "auto"]);
            start_and_kill(&args, &killed, steps);
        }
        expect(0, &of(method, &data, &killed, &["--threads", "3", "--resume", "auto"]));
        assert_same_weights(&whole, &killed);
        assert_eq!(steps_in_metrics(&killed), (0..12).collect::<Vec<_>>());
        assert!(numbers(&whole, "spread").iter().all(|spread| *spread > 0.0));
    }
}

/// The tensors of a run's newest student.
fn student(run: &Path) -> BTreeMap<String, Vec<f32>> {
    let (named, _) = read_safetensors(&run.join("checkpoints/last/student.safetensors")).unwrap();
    named.into_iter().map(|(name, (_, values))| (name, values)).collect()
}

#[test]
fn densecl_without_positions_is_moco() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    let [moco, dense] = ["moco", "dense"].map(|name| dir.path().join(name));
    expect(0, &of("moco", &data, &moco, &[]));
    expect(0, &of("densecl", &data, &dense, &["densecl.weight=0"]));
    let dense = student(&dense);
    for (name, values) in student(&moco) {
        assert!(values == dense[&name], "{name} differs");
    }
    assert!(dense.keys().any(|name| name.starts_with("dense.")));
}

/// Losses of the first step.
fn losses(run: &Path) -> BTreeMap<String, f64> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    serde_json::from_value(line["losses"].clone()).unwrap()
}

#[test]
fn a_net_by_itself_begins_as_the_supernets_largest() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    for method in ["moco", "byol"] {
        let [all, alone] = ["all", "alone"].map(|name| dir.path().join(format!("{method} {name}")));
        expect(0, &of(method, &data, &all, &["--max-steps", "1"]));
        expect(0, &of(method, &data, &alone, &["--max-steps", "1", "--arch", "max"]));
        let (all, alone) = (losses(&all), losses(&alone));
        assert_eq!((all.len(), alone.len()), (3, 1));
        let (arch, loss) = alone.first_key_value().unwrap();
        assert_eq!(all[arch], *loss, "{method}");
    }
}

#[test]
fn a_net_by_itself_is_of_its_true_size_and_has_everything_that_a_supernet_has() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    let run = dir.path().join("run");
    let args = of("byol", &data, &run, &["--arch", "min", "--resume", "auto"]);
    start_and_kill(&args, &run, 5);
    expect(0, &args);
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    let arch = config.lines().find_map(|line| line.strip_prefix("arch = \"s")).unwrap();
    let arch = format!("s{}", arch.split('"').next().unwrap());
    let weights = student(&run);
    let stem: usize = arch[1..].split('-').next().unwrap().parse().unwrap();
    assert_eq!(weights["bn1.weight"].len(), stem);

    let (ckpt, data) = (s(&run), s(&data));
    let knn = ["eval", "knn", "--ckpt", ckpt, "--arch", "max", "--data", data, "--test-data", data];
    expect(0, &[&knn[..], &["--no-baselines"]].concat());
    let out = dir.path().join("export");
    expect(0, &["export", "--ckpt", ckpt, "--arch", &arch, "--bn-data", data, "--out", s(&out)]);
    let parity = fs::read_to_string(out.join("parity.json")).unwrap();
    assert!(parity.contains("\"z\""), "{parity}");
    let other = "s16-w8.16.24.32-d1.1.1.1";
    expect(2, &["export", "--ckpt", ckpt, "--arch", other, "--bn-data", data, "--out", "nowhere"]);
    expect(
        2,
        &of(
            "byol",
            Path::new(data),
            &dir.path().join("no"),
            &["sampling.arch=s999-w1.1.1.1-d1.1.1.1"],
        ),
    );
    expect(2, &of("byol", Path::new(data), &dir.path().join("no"), &["--arch", "winner"]));
}

#[test]
fn supernets_of_every_method_are_searched_and_exported() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    for method in METHODS {
        let run = dir.path().join(method);
        expect(0, &of(method, &data, &run, &[]));
        let search =
            ["search", "--ckpt", s(&run), "--data", s(&data), "--task", "cls", "--samples", "3"];
        let found = ["--budget", "0..1G", "--bn-images", "16", "--images", "16", "--force"];
        expect(0, &[&search[..], &found].concat());
        let out = dir.path().join(format!("{method} export"));
        let to = ["--bn-data", s(&data), "--out", s(&out)];
        expect(0, &[&["export", "--ckpt", s(&run), "--arch", "winner"][..], &to].concat());
        let report = dir.path().join(method).join("report.html");
        expect(0, &["report", s(&run)]);
        assert!(fs::read_to_string(report).unwrap().contains("that tells no images apart"));
    }
}

/// A collapse of each method is said, in its words.
#[test]
fn collapses_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 2, 8);
    let run = |name: &str| dir.path().join(name);
    // Without a slow teacher, with weights that decay to nothing.
    let byol = ["--arch", "min", "byol.ema=0", "train.lr=1", "train.weight_decay=0.3"];
    let long = ["train.warmup_epochs=0", "train.epochs=200", "train.accum=1", "log.every=100"];
    let (_, stderr) = expect(4, &of("byol", &data, &run("byol"), &[&byol[..], &long].concat()));
    assert!(stderr.contains("training is collapsed"), "{stderr}");
    // Relations that tell nothing apart.
    let ressl = ["ressl.tau_teacher=100", "train.epochs=15", "guard.collapse=false"];
    let (_, stderr) = expect(0, &of("ressl", &data, &run("ressl"), &ressl));
    assert!(stderr.contains("relates every image to all others alike"), "{stderr}");
    assert_eq!(stderr.matches("lower ressl.tau_teacher (100)").count(), 1, "{stderr}");
    let line = fs::read_to_string(run("ressl").join("metrics.jsonl")).unwrap();
    assert!(line.contains("\"signs\":{\"entropy\":3."), "{line}");
    let harsh = ["train.lr=50", "moco.head_norm=false", "moco.queue_fill=random"];
    let (_, stderr) = expect(4, &of("densecl", &data, &run("densecl"), &harsh));
    assert!(stderr.contains("collapsed"), "{stderr}");
}
