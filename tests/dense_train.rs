//! `engine finetune --task seg|det-c4|det-fpn` and `engine eval seg|det` from the command line, on
//! drawn images.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::runs::{numbers, start_and_kill, steps_in_metrics};
use common::{expect, s};
use engine::device::emulator::IS_PRESENT;
use serde_json::Value;

const ARCH: &str = "s8-w8.16.32.64-d1.1.2.1";
/// Settings that make steps of little work.
const SMALL: [(&str, &[&str]); 3] =
    [("seg", &["seg.crop=48", "seg.channels=16"]), ("det-c4", DET), ("det-fpn", DET)];
const DET: &[&str] = &[
    "det.short_min=64",
    "det.short_max=64",
    "det.short_test=64",
    "det.long=64",
    "det.channels=16",
    "det.fc=32",
    "det.roi_batch=16",
    "finetune.bn=batch",
];

struct Given {
    _dir: tempfile::TempDir,
    root: PathBuf,
}

impl Given {
    /// Drawn images, some to learn from and some to test on.
    fn new(images: [usize; 2]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_path_buf();
        let [train, test] = images.map(|n| n.to_string());
        let out = root.join("shapes");
        let sizes = ["--images", &train, "--test", &test, "--side", "64"];
        expect(0, &[&["data", "shapes", "--out", s(&out)][..], &sizes].concat());
        Self { _dir: dir, root }
    }

    fn run(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn split(&self, name: &str) -> String {
        format!("{}#{name}", s(&self.root.join("shapes")))
    }

    fn args(&self, task: &str, out: &str, more: &[&str]) -> Vec<String> {
        let mut args = vec!["finetune", "--task", task, "--arch", ARCH, "--preset", "tiny"];
        args.extend(["--scratch", "train.batch=4", "train.lr=0.01", "finetune.lr_head=0.01"]);
        let (data, val, out) = (self.split("train"), self.split("test"), self.run(out));
        args.extend(["--data", &data, "--val-data", &val, "--out", s(&out), "--json"]);
        let small = SMALL.iter().find(|(name, _)| *name == task).unwrap().1;
        args.extend(small);
        args.extend(more);
        args.into_iter().map(str::to_owned).collect()
    }

    fn finetune(&self, code: i32, task: &str, out: &str, more: &[&str]) -> (String, String) {
        let args = self.args(task, out, more);
        expect(code, &args.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn weights(run: &Path) -> Vec<Vec<u8>> {
    let files = ["checkpoints/last/student", "checkpoints/last/optimizer", "tuned"];
    files.map(|stem| fs::read(run.join(format!("{stem}.safetensors"))).unwrap()).into()
}

#[test]
fn a_killed_run_ends_with_the_same_bits_on_any_number_of_threads() {
    let given = Given::new([24, 4]);
    for (task, words) in [
        ("seg", &["train.accum=2", "finetune.bn=frozen"][..]),
        ("det-c4", &[][..]),
        ("det-fpn", &["finetune.bn=frozen", "train.accum=2"][..]),
    ] {
        let (a, b) = (format!("{task}-whole"), format!("{task}-parts"));
        let words = [words, &["finetune.steps=12", "ckpt.every=5"]].concat();
        let whole = given.finetune(0, task, &a, &[&words[..], &["--threads", "2"]].concat()).0;
        let more = [&words[..], &["--threads", "1", "--resume"]].concat();
        let args = given.args(task, &b, &more);
        let parts = given.run(&b);
        start_and_kill(&args.iter().map(String::as_str).collect::<Vec<_>>(), &parts, 7);
        let resumed = given.finetune(0, task, &b, &more).0;
        assert_eq!(steps_in_metrics(&parts), (0..12).collect::<Vec<_>>(), "{task}");
        assert!(weights(&given.run(&a)) == weights(&parts), "{task}: other weights");
        let numbers = |text: &str| {
            let mut all = json(text);
            let map = all.as_object_mut().unwrap();
            map.remove("train");
            map.remove("test");
            all
        };
        assert_eq!(numbers(&whole), numbers(&resumed), "{task}");
    }
}

#[test]
fn nets_are_tested_again_and_their_answers_scored_from_files() {
    let given = Given::new([16, 6]);
    let test = given.split("test");
    let result = json(&given.finetune(0, "seg", "seg", &["finetune.steps=30"]).0);
    for key in ["miou", "macc", "aacc"] {
        let share = result[key].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&share), "{key} {share}");
    }
    let classes: Vec<&String> = result["per_class"].as_object().unwrap().keys().collect();
    assert_eq!(classes, ["background", "circle", "square", "triangle"]);
    let run = given.run("seg");
    let again = ["eval", "seg", "--ckpt", s(&run), "--data", &test, "--json"];
    let again = json(&expect(0, &again).0);
    assert_eq!(again["per_class"], result["per_class"]);
    let masks = run.join("masks");
    let of_files = ["eval", "seg", "--masks", s(&masks), "--data", &test, "--json"];
    assert_eq!(json(&expect(0, &of_files).0)["per_class"], result["per_class"]);

    for task in ["det-c4", "det-fpn"] {
        let result = json(&given.finetune(0, task, task, &["finetune.steps=30"]).0);
        assert_eq!(result["metric"], "coco");
        assert_eq!(result.get("mask").is_some(), task == "det-fpn", "{task}");
        let run = given.run(task);
        let args = ["eval", "det", "--ckpt", s(&run), "--data", &test, "--json"];
        assert_eq!(json(&expect(0, &args).0), result, "{task}");
        let found = run.join("detections.json");
        let args = ["eval", "det", "--detections", s(&found), "--data", &test, "--json"];
        let of_files = json(&expect(0, &args).0);
        for key in ["AP", "AP50", "AR100", "per_class"] {
            assert_eq!(of_files[key], result[key], "{task} {key}");
        }
        let e = expect(2, &["eval", "seg", "--ckpt", s(&run), "--data", &test]).1;
        assert!(e.contains("is not a run of engine finetune --task seg"), "{e}");
    }
}

#[test]
fn losses_fall_and_have_names() {
    let given = Given::new([8, 2]);
    for (task, names) in [
        ("seg", &["seg", "aux"][..]),
        ("det-c4", &["rpn_cls", "rpn_loc", "cls", "box"][..]),
        ("det-fpn", &["rpn_cls", "rpn_loc", "cls", "box", "mask"][..]),
    ] {
        given.finetune(0, task, task, &["finetune.steps=60"]);
        let run = given.run(task);
        let losses = numbers(&run, "loss");
        let mean = |some: &[f64]| some.iter().sum::<f64>() / some.len() as f64;
        let (first, last) = (mean(&losses[..10]), mean(&losses[50..]));
        assert!(last < 0.9 * first, "{task}: {first} to {last}");
        let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let line = json(text.lines().next().unwrap());
        for name in names {
            assert!(line.to_string().contains(&format!("\"{name}\"")), "{task}: {line}");
        }
    }
}

#[test]
fn tests_during_training_change_no_bit_and_are_kept() {
    let given = Given::new([12, 3]);
    let result = |run: &Path, step: u64| {
        json(&fs::read_to_string(run.join(format!("eval/step-{step:08}.json"))).unwrap())
    };
    for (task, words) in [("seg", &["finetune.bn=frozen"][..]), ("det-fpn", &[])] {
        let words = [words, &["finetune.steps=9", "ckpt.every=4"]].concat();
        let [without, with, parts] =
            ["without", "with", "parts"].map(|name| format!("{task}-{name}"));
        let last = given.finetune(0, task, &without, &words).0;
        let words = [&words[..], &["finetune.eval_every=3"]].concat();
        let more = [&words[..], &["--threads", "2"]].concat();
        assert_eq!(given.finetune(0, task, &with, &more).0, last, "{task}");
        let [without, with] = [without, with].map(|name| given.run(&name));
        assert!(weights(&without) == weights(&with), "{task}: other weights");
        // Those of steps 3 and 6; that of step 9 is the result.
        assert_eq!(fs::read_dir(with.join("eval")).unwrap().count(), 2 + 2, "{task}");
        let key = if task == "seg" { "miou" } else { "AP" };
        let metrics = fs::read_to_string(with.join("metrics.jsonl")).unwrap();
        for (step, line) in metrics.lines().map(json).enumerate() {
            assert_eq!(line.get("eval").is_some(), step == 3 || step == 6, "{task}: {line}");
            if let Some(found) = line.get("eval") {
                assert_eq!(found[key], result(&with, step as u64)[key], "{task}");
            }
        }
        let log = fs::read_to_string(with.join("train.log")).unwrap();
        assert!(log.contains(&format!("test at step 6: {key} ")), "{task}: {log}");

        let short = given.run(&format!("{task}-short"));
        let stop = [&words[..], &["--max-steps", "6"]].concat();
        given.finetune(0, task, &format!("{task}-short"), &stop);
        assert!(!short.join("eval/step-00000006.json").exists(), "tested when it goes on");
        let args = given.args(task, &parts, &[&words[..], &["--resume"]].concat());
        let parts_run = given.run(&parts);
        start_and_kill(&args.iter().map(String::as_str).collect::<Vec<_>>(), &parts_run, 7);
        fs::copy(with.join("eval/step-00000003.json"), parts_run.join("eval/step-00000030.json"))
            .unwrap();
        given.finetune(0, task, &parts, &[&words[..], &["--resume"]].concat());
        assert!(weights(&parts_run) == weights(&with), "{task}: other weights after a kill");
        for step in [3, 6] {
            assert_eq!(result(&parts_run, step), result(&with, step), "{task}");
        }
        assert!(!parts_run.join("eval/step-00000030.json").exists(), "of no step of this run");
        assert_eq!(steps_in_metrics(&parts_run), (0..9).collect::<Vec<_>>(), "{task}");
        expect(0, &["report", s(&with)]);
        let page = fs::read_to_string(with.join("report.html")).unwrap();
        assert!(page.contains("Tests during training"), "{task}");
        expect(0, &["report", s(&without)]);
        let page = fs::read_to_string(without.join("report.html")).unwrap();
        assert!(!page.contains("Tests during training"), "{task}");
    }
}

#[test]
fn the_kernels_learn_the_same() {
    if !IS_PRESENT {
        return;
    }
    let given = Given::new([4, 1]);
    for task in ["seg", "det-c4", "det-fpn"] {
        let loss = |device: &str| {
            let out = format!("{task}-{device}");
            let words = ["--device", device, "train.precision=fp32", "train.batch=2"];
            let steps = ["finetune.steps=3", "--max-steps", "2", "seg.crop=32"];
            given.finetune(0, task, &out, &[&words[..], &steps].concat());
            numbers(&given.run(&out), "loss")
        };
        let (cpu, emulator) = (loss("cpu"), loss("emulator"));
        for (a, b) in cpu.iter().zip(&emulator) {
            assert!((a - b).abs() < 2e-3 * a.abs(), "{task}: {cpu:?} {emulator:?}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let given = Given::new([8, 2]);
    for (code, task, more, what) in [
        (2, "seg", &["--recipe", "voc-c4"][..], "is not for --task seg"),
        (2, "det-fpn", &["--labels", "0.5"], "--labels is for --task cls alone"),
        (2, "seg", &["seg.output_stride=3"], "seg.output_stride"),
        (2, "det-fpn", &["det.short_min=96"], "det.short_min"),
        (2, "det-c4", &["train.bn_group=2"], "train.bn_group"),
        (2, "seg", &["seg.long=64"], "seg.short"),
        (2, "seg", &["finetune.body=frozen"], "finetune.body=frozen"),
        (2, "seg", &["--images", "here"], "--images"),
    ] {
        let e = given.finetune(code, task, "refused", more).1;
        assert!(e.contains(what), "{more:?}: {e}");
    }
    let (train, wrong) = (given.split("train"), given.split("trian"));
    let e = expect(3, &["eval", "det", "--detections", "none.json", "--data", &wrong]).1;
    assert!(e.contains("instances_train.json"), "{e}");
    let e = expect(2, &["eval", "det", "--data", &train]).1;
    assert!(e.contains("--detections"), "{e}");
    let shapes = given.root.join("shapes");
    fs::write(shapes.join("classes.txt"), "background\ncircle\n").unwrap();
    let e = given.finetune(3, "seg", "few-classes", &["finetune.steps=1"]).1;
    assert!(e.contains("expected labels of 2 classes"), "{e}");
}
