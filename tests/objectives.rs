//! The seams of training hold more than MoCo: a method without a queue, with a predictor and two
//! directions, of this file alone, and the product's objective that learns classes are trained
//! by the same run as everything else, killed and resumed.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::runs::{numbers, steps_in_metrics};
use common::{images, s};
use engine::Result;
use engine::config::{resolve, word};
use engine::cx::Cx;
use engine::data::Views;
use engine::device::emulator::Emulator;
use engine::finetune::cls::Classify;
use engine::nn::{Bn, Feature, Heads, Layer, Mlp, Outputs};
use engine::ops::cosine::Cosine;
use engine::signals::Signals;
use engine::ssl::{self, Method, Moment, Outlook, Reads, Recipe};
use engine::tape::{Tape, Var};
use engine::train::checkpoint::Checkpoint;
use engine::train::{Objective, Options, Outcome, Pretrain, Resume, Setup, run_objective};

/// As BYOL: a student's prediction of each view meets the teacher's embedding of the other.
struct TwoWay;

impl Method for TwoWay {
    fn name(&self) -> &'static str {
        "two-way"
    }
    fn teacher_views(&self) -> &'static [usize] {
        &[0, 1]
    }
    fn passes(&self) -> &'static [&'static [usize]] {
        &[&[0], &[1]]
    }
    fn reads(&self) -> Reads {
        Reads { student: &[Feature::P, Feature::Z], teacher: &[Feature::Z] }
    }
    fn ema(&self, at: Moment) -> f64 {
        1.0 - 0.1 * (1.0 - at.step as f64 / at.steps as f64)
    }
    fn loss(
        &self,
        tape: &mut Tape,
        pass: usize,
        student: &[Outputs],
        targets: &ssl::Targets,
        weight: f64,
    ) -> Result<Var> {
        let other = tape.constant(targets[1 - pass][0].clone());
        tape.apply(Cosine { weight }, &[student[0].get(Feature::P), &other])
    }
    fn finish_step(&mut self, _cx: &Cx, _targets: &ssl::Targets) -> Result<()> {
        Ok(())
    }
    fn outlook(&self, _images: usize) -> Outlook {
        Outlook { even_loss: 4.0, even: "guessing", lines: vec!["both directions".into()] }
    }
    fn constants(&self) -> Vec<(&'static str, f64)> {
        Vec::new()
    }
}

fn two_way(cx: &Cx, setup: &Setup) -> Result<Box<dyn Objective>> {
    let hidden = Layer { out: 24, bias: false, bn: Bn::Affine, relu: true };
    let last = Layer { out: 16, bias: false, bn: Bn::None, relu: false };
    let mlp = Mlp(vec![hidden, last]);
    let recipe = Recipe {
        views: Views::byol().to_vec(),
        heads: Heads { predictor: Some(mlp.clone()), ..Heads::projector(mlp) },
        build: Box::new(|_, _| Ok(Box::new(TwoWay))),
    };
    Ok(Box::new(Pretrain::with_recipe(cx, setup, recipe)?))
}

/// Trains one of the two, of 24 steps, and goes on with what is there.
fn train(cx: &Cx, objective: &str, data: &Path, out: &Path, more: &[&str]) -> Result<Outcome> {
    let words = [
        "preset=tiny",
        "train.batch=8",
        "train.epochs=4",
        "train.lr=0.02",
        "train.warmup_epochs=1",
        "finetune.lr_head=0.02",
        "moco.queue=24",
        "ckpt.every=2",
        "ckpt.keep=2",
        "guard.collapse=false",
    ];
    let words = words.iter().chain(more).map(|w| word(w)).collect::<Result<Vec<_>>>()?;
    let options = Options {
        settings: resolve(&words)?,
        command: "a test".into(),
        data: vec![s(data).to_owned()],
        out: out.to_path_buf(),
        init: None,
        resume: Resume::Auto,
        overwrite: false,
        claimed: None,
        max_steps: None,
        time_limit: None,
        dump_steps: Vec::new(),
        dump_dir: None,
        probe: None,
        quiet: true,
    };
    let make = match objective {
        "two-way" => two_way,
        _ => Classify::make,
    };
    cx.install(|| run_objective(cx, &options, &make, &Signals::none()))
}

/// A process that [`killed`] starts and kills; nothing else runs it.
#[test]
#[ignore = "is started by the tests of killed runs"]
fn in_a_process_of_its_own() {
    let [objective, data, out] =
        ["OBJECTIVE", "DATA", "OUT"].map(|name| std::env::var(format!("TEST_{name}")).unwrap());
    train(&Cx::for_tests(), &objective, Path::new(&data), Path::new(&out), &[]).unwrap();
}

/// Begins a run in another process and kills it after some steps.
fn killed(objective: &str, data: &Path, out: &Path) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "in_a_process_of_its_own", "--ignored"])
        .envs([("TEST_OBJECTIVE", objective), ("TEST_DATA", s(data)), ("TEST_OUT", s(out))])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while steps_in_metrics(out).len() < 9 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(child.try_wait().unwrap().is_none(), "the run ended before it was killed");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Files of tensors of the newest checkpoint.
fn tensors(run: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<PathBuf> = fs::read_dir(run.join("checkpoints/last"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
        .collect();
    files.sort();
    files.into_iter().map(|p| (p.file_name().unwrap().into(), fs::read(p).unwrap())).collect()
}

/// A run of 24 steps, and one that was killed and resumed, which ends with the same bits.
fn whole_and_killed(objective: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    let cx = Cx::for_tests();
    let outcome = train(&cx, objective, &data, &whole, &[]).unwrap();
    assert_eq!((outcome.step, outcome.steps, outcome.stopped), (24, 24, None));
    killed(objective, &data, &parts);
    train(&cx, objective, &data, &parts, &[]).unwrap();
    assert_eq!(steps_in_metrics(&parts), (0..24).collect::<Vec<_>>());
    assert!(tensors(&whole) == tensors(&parts), "a run that was killed ends with other weights");
    (dir, whole)
}

#[test]
fn a_method_without_a_queue_with_a_predictor_and_two_directions() {
    let (_dir, run) = whole_and_killed("two-way");
    let names = |stem: &str| -> Vec<String> {
        Checkpoint::open(&run).unwrap().tensors(stem).unwrap().into_keys().collect()
    };
    let (student, teacher) = (names("student"), names("teacher"));
    let predictor = |name: &&String| name.starts_with("predictor.");
    assert_eq!(student.iter().filter(predictor).count(), 4);
    assert!(student.iter().filter(|n| !predictor(n)).eq(&teacher), "the teacher has all the rest");
    assert_eq!(numbers(&run, "ema")[12], 1.0 - 0.1 * 0.5);
    // Both directions of three students: guessing has 4 each.
    let losses = numbers(&run, "loss");
    assert!(losses[23] < 0.5 * losses[0] && losses[0] < 24.0, "{losses:?}");
    assert!(numbers(&run, "spread").iter().all(|s| *s > 0.0));
    let log = fs::read_to_string(run.join("train.log")).unwrap();
    assert!(log.contains("both directions") && log.contains("(guessing 4.00)"), "{log}");
}

#[test]
fn a_supervised_objective_learns_classes() {
    let (dir, run) = whole_and_killed("classes");
    let line = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    assert!(line.contains("\"losses\":{\"classes\":") && !line.contains("spread"), "{line}");
    // A longer run, whose last 20 batches of 8 are told apart better than its first 20.
    let (data, long) = (dir.path().join("images"), dir.path().join("long"));
    train(&Cx::for_tests(), "classes", &data, &long, &["train.epochs=40"]).unwrap();
    let losses = numbers(&long, "loss");
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (mean(&losses[..20]), mean(&losses[220..]));
    assert!(last < 0.5 * first, "{first} and {last}");
}

#[test]
#[cfg_attr(not(feature = "emulator"), ignore = "needs the cargo feature emulator")]
fn both_are_trained_on_devices_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 2, 4);
    let emulator = Cx::device(Arc::new(Emulator::new(2).unwrap()), 1).unwrap();
    let first = |cx: &Cx, name: &str, objective: &str, more: &[&str]| {
        let out = dir.path().join(name);
        train(cx, objective, &data, &out, &[&["train.epochs=1"], more].concat()).unwrap();
        numbers(&out, "loss")[0]
    };
    let groups = ["train.bn_group=4"];
    let parts = ["train.bn_group=4", "train.accum=2"];
    for objective in ["two-way", "classes"] {
        let [cpu, device] = [(&Cx::for_tests(), "cpu"), (&emulator, "emulator")]
            .map(|(cx, on)| first(cx, &format!("{objective} {on}"), objective, &groups));
        assert!((cpu - device).abs() < 1e-3 * cpu, "{objective}: {cpu} and {device}");
        let accum = first(&Cx::for_tests(), &format!("{objective} accum"), objective, &parts);
        assert!((cpu - accum).abs() < 1e-4 * cpu, "{objective}: {cpu} and {accum} in parts");
    }
}

#[test]
fn classes_must_be_there() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 1, 8).join("class0");
    let out = dir.path().join("run");
    let error = train(&Cx::for_tests(), "classes", &data, &out, &[]).map(drop).unwrap_err();
    assert!(error.to_string().contains("expected a class for every image"), "{error}");
}
