//! `engine finetune` and `engine eval cls` from the command line.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use common::runs::{start_and_kill, steps_in_metrics, train};
use common::{engine, expect, images, s};
use engine::files::read_safetensors;
use engine::train::Checkpoint;
use serde_json::Value;

const CLASSES: usize = 4;
const ARCH: &str = "s8-w8.16.32.64-d1.1.2.1";

/// Images to learn from and to test on, and a supernet of twelve steps.
struct Given {
    _dir: tempfile::TempDir,
    root: PathBuf,
}

impl Given {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_path_buf();
        let train_images = images(&root, CLASSES, 30);
        for class in 0..CLASSES {
            let to = root.join(format!("val/class{class}"));
            fs::create_dir_all(&to).unwrap();
            for i in 20..30 {
                let name = format!("{i:04}.png");
                let from = train_images.join(format!("class{class}")).join(&name);
                fs::rename(from, to.join(name)).unwrap();
            }
        }
        expect(0, &train(&train_images, &root.join("supernet"), &[]));
        Self { _dir: dir, root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// `engine finetune` from the supernet into a folder, with more arguments.
    fn args(&self, out: &str, more: &[&str]) -> Vec<String> {
        let [data, val, ckpt, out] =
            ["images", "val", "supernet", out].map(|name| s(&self.path(name)).to_owned());
        let mut args: Vec<String> =
            ["finetune", "--task", "cls", "--arch", ARCH].map(str::to_owned).into();
        args.extend(["--ckpt".into(), ckpt, "--data".into(), data]);
        args.extend(["--val-data".into(), val, "--out".into(), out]);
        args.extend(["train.batch=16", "ckpt.every=5", "--json"].map(str::to_owned));
        args.extend(more.iter().map(|&word| word.to_owned()));
        args
    }

    fn finetune(&self, code: i32, out: &str, more: &[&str]) -> (String, String) {
        let args = self.args(out, more);
        expect(code, &args.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn weights(run: &Path) -> Vec<Vec<u8>> {
    ["student", "optimizer"]
        .map(|stem| fs::read(run.join(format!("checkpoints/last/{stem}.safetensors"))).unwrap())
        .into()
}

#[test]
fn a_net_learns_classes_and_its_export_knows_them() {
    let given = Given::new();
    let result = json(&given.finetune(0, "run", &["finetune.steps=80"]).0);
    for (key, value) in [
        ("task", "cls".into()),
        ("arch", ARCH.into()),
        ("chance", 0.25.into()),
        ("labels", "all".into()),
        ("train_images", 80.into()),
        ("test_images", 40.into()),
        ("seed", Value::from(0)),
        ("top5", 1.0.into()),
    ] {
        assert_eq!(result[key], value, "{key}");
    }
    let top1 = result["top1"].as_f64().unwrap();
    assert!(top1 > 0.6, "{top1} of four classes");
    let bits = result["correct"].as_str().unwrap();
    let ones: u32 = bits.chars().map(|c| c.to_digit(16).unwrap().count_ones()).sum();
    assert_eq!((bits.len(), f64::from(ones)), (10, top1 * 40.0));
    let interval: Vec<f64> = serde_json::from_value(result["top1_ci95"].clone()).unwrap();
    assert!(interval[0] < top1 && top1 < interval[1]);

    // The file of the run, the run tested again, its export tested.
    let run = given.path("run");
    let file = run.join(format!("eval/cls-val-{ARCH}-step-00000080.json"));
    assert_eq!(json(&fs::read_to_string(file).unwrap()), result);
    let (val, exported) = (given.path("val"), given.path("exported"));
    let again = expect(0, &["eval", "cls", "--ckpt", s(&run), "--data", s(&val), "--json"]).0;
    assert_eq!(json(&again), result);
    let bn = given.path("images");
    let to = ["--bn-data", s(&bn), "--out", s(&exported)];
    let parity =
        expect(0, &[&["export", "--ckpt", s(&run), "--arch", "max", "--json"][..], &to].concat());
    assert!(json(&parity.0)["parity"]["folded"]["features"]["scores"].is_object());
    let args = ["eval", "cls", "--model", s(&exported), "--data", s(&val), "--json"];
    let of_export = json(&expect(0, &args).0);
    for key in ["top1", "labels", "recipe", "train_images"] {
        assert_eq!(of_export[key], result[key], "{key}");
    }
    assert_eq!(of_export["correct"], result["correct"]);
    // Further on from the export, and a page of all that.
    let more = ["finetune", "--task", "cls", "--model", s(&exported), "--data", s(&bn)];
    let (further, quick) = (given.path("further"), ["finetune.steps=2", "--quiet"]);
    let rest = ["--val-data", s(&val), "--out", s(&further), "train.batch=16"];
    expect(0, &[&more[..], &rest, &quick].concat());
    expect(0, &["report", s(&run)]);
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("fine-tuned, top1") && page.contains("ln 4 = 1.39"));
    assert!(!page.contains("equal embeddings") && !page.contains("No search yet"));
    assert!(
        expect(0, &["inspect", s(&run)]).0.contains("fine-tuned for cls: 4 classes, labels all")
    );
}

#[test]
fn a_killed_run_ends_with_the_same_bits() {
    let given = Given::new();
    let words = ["finetune.steps=40", "train.accum=2"];
    let whole = given.finetune(0, "whole", &words).0;
    let parts = given.path("parts");
    let args = given.args("parts", &[&words[..], &["--resume"]].concat());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    start_and_kill(&args, &parts, 12);
    let resumed = expect(0, &args).0;
    assert_eq!(steps_in_metrics(&parts), (0..40).collect::<Vec<_>>());
    assert!(weights(&given.path("whole")) == weights(&parts), "other weights after a kill");
    assert_eq!(json(&whole), json(&resumed));
    // Once more: there is nothing to do but to test.
    assert_eq!(json(&expect(0, &args).0), json(&whole));
    // Another net, or other labels, is another run.
    for other in [["--arch", "min"], ["--labels", "0.5"], ["--recipe", "swav"]] {
        let mut changed: Vec<&str> = args.clone();
        if other[0] == "--arch" {
            changed.retain(|word| !["--arch", ARCH].contains(word));
        }
        changed.extend(if other == ["--arch", "min"] { ["--arch", "max"] } else { other });
        let (_, stderr) = expect(6, &changed);
        assert!(stderr.contains("cannot continue"), "{stderr}");
    }
    // A run that was stopped has no classifier yet.
    given.finetune(0, "short", &["finetune.steps=40", "--max-steps", "3"]);
    let (short, val) = (given.path("short"), given.path("val"));
    let (_, stderr) = expect(2, &["eval", "cls", "--ckpt", s(&short), "--data", s(&val)]);
    assert!(stderr.contains("has no classifier"), "{stderr}");
}

#[test]
fn mixed_images_at_another_resolution() {
    let given = Given::new();
    let words = ["--recipe", "vtab-full", "finetune.resolution=40", "finetune.steps=12"];
    let whole = given.finetune(0, "whole", &words).0;
    let run = given.path("whole");
    // Stopped and gone on with: windows and partners are the step's.
    given.finetune(0, "parts", &[&words[..], &["--max-steps", "7"]].concat());
    given.finetune(0, "parts", &[&words[..], &["--resume"]].concat());
    assert!(weights(&run) == weights(&given.path("parts")), "other weights after a stop");
    let plain = [&words[..], &["finetune.cutmix=0"]].concat();
    given.finetune(0, "plain", &plain);
    assert!(weights(&run) != weights(&given.path("plain")), "CutMix changed nothing");
    // The net is one of 40 pixels: in its test, and in its export.
    let (val, bn, exported) = (given.path("val"), given.path("images"), given.path("exported"));
    let again = expect(0, &["eval", "cls", "--ckpt", s(&run), "--data", s(&val), "--json"]).0;
    assert_eq!(json(&again), json(&whole));
    expect(
        0,
        &["export", "--ckpt", s(&run), "--arch", "max", "--bn-data", s(&bn), "--out", s(&exported)],
    );
    let config = json(&fs::read_to_string(exported.join("config.json")).unwrap());
    assert_eq!(config["input_size"], serde_json::json!([3, 40, 40]));
    let (_, stderr) = given.finetune(2, "bad", &["--recipe", "linear", "finetune.cutmix=0.5"]);
    assert!(
        stderr.contains("finetune.cutmix = 0.5") && stderr.contains("expected 0 with"),
        "{stderr}"
    );
}

#[test]
fn rates_are_chosen_on_labels_that_are_held_out() {
    let given = Given::new();
    let quick = ["finetune.steps=6", "--recipe", "semi"];
    let result = json(&given.finetune(0, "grid", &quick).0);
    let grid = json(&fs::read_to_string(given.path("grid/grid.json")).unwrap());
    let cells = grid["cells"].as_array().unwrap();
    assert_eq!(
        (cells.len(), &grid["train_images"], &grid["test_images"]),
        (9, &64.into(), &16.into())
    );
    let best = cells.iter().map(|cell| cell["top1"].as_f64().unwrap()).fold(0.0, f64::max);
    let chosen = cells.iter().find(|cell| cell["top1"] == best).unwrap();
    assert_eq!([&result["lr"], &result["lr_head"]], [&chosen["lr"], &chosen["lr_head"]]);
    assert_eq!((&result["select"], &result["train_images"]), (&"held-out".into(), &80.into()));
    let toml = fs::read_to_string(given.path("grid/config.toml")).unwrap();
    assert!(toml.contains("# the best of those tried on a fifth of the labels"), "{toml}");
    // What was tried is not tried again.
    let (_, stderr) = given.finetune(0, "grid", &[&quick[..], &["--resume"]].concat());
    assert!(!stderr.contains("trying"), "{stderr}");
    // A rate that is named is chosen; a choice on the test images is said.
    given.finetune(0, "own", &[&quick[..], &["train.lr=0.01"]].concat());
    assert!(!given.path("own/grid.json").exists());
    let args = given.args("test", &[&quick[..], &["--select", "test"]].concat());
    let args: Vec<&str> =
        args.iter().map(String::as_str).filter(|word| *word != "--json").collect();
    assert!(expect(0, &args).0.contains("chosen on the test images"));
}

#[test]
fn a_killed_grid_goes_on_with_its_next_pair() {
    let given = Given::new();
    let words = ["finetune.steps=20", "--recipe", "semi", "--resume"];
    let whole = given.finetune(0, "whole", &words).0;
    let (kept, args) = (given.path("parts/grid.json"), given.args("parts", &words));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut child = engine(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !kept.exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!given.path("parts/checkpoints").exists(), "the grid ended before it was killed");
    let (resumed, stderr) = expect(0, &args);
    assert!(stderr.matches(" of the head: ").count() < 9, "all pairs were tried again: {stderr}");
    assert_eq!(json(&whole), json(&resumed));
    assert!(fs::read(given.path("whole/grid.json")).unwrap() == fs::read(kept).unwrap());
    assert!(weights(&given.path("whole")) == weights(&given.path("parts")));
}

#[test]
fn linear_classifiers_learn_at_once_on_a_body_that_stays() {
    let given = Given::new();
    let result = json(
        &given
            .finetune(
                0,
                "linear",
                &["finetune.steps=300", "--recipe", "linear", "finetune.crop_min=1"],
            )
            .0,
    );
    assert!(result["top1"].as_f64().unwrap() > 0.4, "{result}");
    let grid = json(&fs::read_to_string(given.path("linear/grid.json")).unwrap());
    assert_eq!(grid["cells"].as_array().unwrap().len(), 7);
    let run = given.path("linear");
    let at = |step| {
        let path = run.join(format!("checkpoints/step-{step:08}/student.safetensors"));
        read_safetensors(&path).unwrap().0
    };
    let (first, last) = (at(0), at(300));
    for (name, values) in &first {
        let is_head = name.starts_with("fc.") || name.starts_with("trial.");
        assert_eq!(last[name] == *values, !is_head, "{name}");
    }
    // Two classifiers for each rate, of which one saw all images.
    assert_eq!(
        first
            .keys()
            .filter(|name| name.ends_with("weight")
                && !name.starts_with("bn")
                && (name.starts_with("fc.") || name.starts_with("trial.")))
            .count(),
        14
    );
    assert!(Checkpoint::open(&run).unwrap().state.hashes.contains_key("statistics"));
    let paper = ["finetune.steps=4", "--recipe", "linear", "--paper"];
    let paper = json(&given.finetune(0, "paper", &paper).0);
    assert_eq!((&paper["lr_head"], &paper["select"]), (&30.0.into(), &"off".into()));
}

#[test]
fn a_share_of_the_labels_and_scratch() {
    let given = Given::new();
    let result = json(&given.finetune(0, "share", &["finetune.steps=2", "--labels", "0.1"]).0);
    assert_eq!((&result["labels"], &result["train_images"]), (&"0.1".into(), &8.into()));
    let list = given.path("some.txt");
    fs::write(
        &list,
        "class0/0001.png\nclass1/0002.png 1\nclass2/0003.png\tclass2\nclass3/0000.png\n",
    )
    .unwrap();
    let result = json(&given.finetune(0, "list", &["finetune.steps=2", "--labels", s(&list)]).0);
    assert_eq!((&result["labels"], &result["train_images"]), (&"some.txt".into(), &4.into()));
    let (data, val, out) = (given.path("images"), given.path("val"), given.path("scratch"));
    let from = ["finetune", "--task", "cls", "--scratch", "--arch", ARCH, "--data", s(&data)];
    let to = ["--val-data", s(&val), "--out", s(&out), "finetune.steps=2", "--labels", "0.5"];
    let text = expect(0, &[&from[..], &to].concat()).0;
    assert!(text.contains("40 to learn (0.5 labels), 40 to test, 4 classes"), "{text}");
    let plan = expect(0, &[&from[..], &to, &["--dry-run", "--resume"]].concat()).0;
    assert!(plan.contains("steps") && plan.contains("planned"), "{plan}");
}

#[test]
fn what_cannot_be_fine_tuned_is_said() {
    let given = Given::new();
    let list = given.path("list.txt");
    fs::write(&list, "class0/0001.png\nclass9/none.png\n").unwrap();
    let others = given.path("others/bird");
    fs::create_dir_all(&others).unwrap();
    fs::copy(given.path("val/class0/0020.png"), others.join("1.png")).unwrap();
    let (flat, others) = (given.path("val/class0"), given.path("others"));
    for (code, more, says) in [
        (3, vec!["--labels", s(&list)], "line 2: \"class9/none.png\" is no image"),
        (3, vec!["--labels", "/nowhere.txt"], "--labels"),
        (2, vec!["--labels", "1.5"], "expected a share"),
        (3, vec!["--labels", "0.01"], "left without an image"),
        (3, vec!["--val-data", s(&others)], "which the other images lack"),
        (3, vec!["--data", s(&flat)], "have no classes"),
        (2, vec!["--recipe", "smal"], "small"),
        (2, vec!["finetune.lr_hed=1"], "finetune.lr_head"),
        (2, vec!["finetune.eval_every=5"], "finetune.eval_every is for seg, det-c4 and det-fpn"),
        (2, vec!["--scratch"], "cannot be used with"),
        (2, vec!["--task", "sgm"], "sgm"),
    ] {
        let mut args = given.args("bad", &[]);
        for flag in ["--val-data", "--data", "--task"] {
            if more.contains(&flag) {
                let at = args.iter().position(|word| word == flag).unwrap();
                args.drain(at..at + 2);
            }
        }
        args.extend(more.iter().map(|&word| word.to_owned()));
        let (_, stderr) = expect(code, &args.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(stderr.contains(says), "{more:?}: {stderr}");
        assert!(!given.path("bad").exists(), "{more:?} left a folder");
    }
    let args = given.args("bad", &[]);
    let without: Vec<&str> =
        args.iter().map(String::as_str).filter(|word| !["--arch", ARCH].contains(word)).collect();
    let (_, stderr) = expect(2, &without);
    assert!(stderr.contains("no net was named"), "{stderr}");
}
