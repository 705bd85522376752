//! What other programs make of our files: ONNX's checker and ONNX Runtime of exports, TensorBoard of
//! a run's events. The libraries are Python's; `scripts/install-interop` installs them. Without them
//! these tests are ignored, and `ENGINE_REQUIRE_INTEROP=1`, which CI sets, makes that a failure.

mod common;
mod tiny_run;

use std::path::Path;

use common::python::{Needs, Test, finish};
use common::runs::{steps_in_metrics, train};
use common::{expect, images, s};
use engine::cx::Cx;
use libtest_mimic::Failed;

const NEEDS: Needs = Needs {
    folder: ".interop",
    script: "scripts/install-interop",
    variable: "ENGINE_REQUIRE_INTEROP",
};

const TESTS: [Test; 5] = [
    ("onnx_runtime_computes_what_the_program_does", onnx_of_a_subnet),
    ("a_graph_that_normalises_takes_images_as_they_are", onnx_that_normalises),
    ("onnx_runtime_gives_a_fine_tuned_nets_scores", onnx_of_a_fine_tuned_net),
    ("onnx_runtime_computes_basic_blocks_on_grey_images", onnx_of_an_own_space),
    ("tensorboard_reads_each_step_of_a_resumed_run_once", tensorboard),
];

fn main() {
    let has_libraries = python("import onnx, onnxruntime, tensorboard, safetensors").is_ok();
    NEEDS.run(has_libraries, &TESTS)
}

/// Runs Python code and gives what it says, in both cases.
fn python(code: &str) -> Result<String, Failed> {
    finish(NEEDS.interpreter().args(["-c", code]))
}

/// Runs a script of `tests/interop`.
fn script(name: &str, args: &[&Path]) -> Result<String, Failed> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
    finish(NEEDS.interpreter().arg(scripts.join(name)).args(args))
}

/// Exports with `--layout onnx`, embeds with the export, and lets ONNX Runtime compute the same.
fn agrees(dir: &Path, export: &[&str], data: &Path, features: &str) -> Result<(), Failed> {
    let (out, file) = (dir.join("export"), dir.join("f.safetensors"));
    let layout = ["--layout", "onnx", "--bn-data", s(data), "--out", s(&out), "--quiet"];
    expect(0, &[&["export"], export, &layout].concat());
    let embed = ["embed", "--model", s(&out), "--data", s(data), "--images", "3", "--quiet"];
    expect(0, &[&embed[..], &["--features", features, "--out", s(&file)]].concat());
    script("onnx_agrees.py", &[&out, &file]).map(|_| ())
}

fn subnet(more: &[&str]) -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let (run, data) = (dir.path().join("run"), dir.path().join("images"));
    tiny_run::write_images(&data);
    tiny_run::write_checkpoint(&Cx::for_tests(), &run, 1);
    let export = ["--ckpt", s(&run), "--arch", "s8-w8.24.48.96-d2.1.3.1"];
    agrees(dir.path(), &[&export, more].concat(), &data, "x,c2,c3,c4,c5,pool,z")
}

fn onnx_of_a_subnet() -> Result<(), Failed> {
    subnet(&[])
}

fn onnx_that_normalises() -> Result<(), Failed> {
    subnet(&["--onnx-normalise"])
}

fn onnx_of_a_fine_tuned_net() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let (data, run) = (images(dir.path(), 3, 8), dir.path().join("run"));
    let net = ["finetune", "--task", "cls", "--scratch", "--arch", "s8-w8.16.32.64-d1.1.2.1"];
    let on = ["--data", s(&data), "--val-data", s(&data), "--out", s(&run), "--quiet"];
    expect(0, &[&net[..], &on, &["finetune.steps=4", "train.batch=8"]].concat());
    let export = ["--ckpt", s(&run), "--arch", "max"];
    agrees(dir.path(), &export, &data, "x,c2,c3,c4,c5,pool")
}

fn onnx_of_an_own_space() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let (data, run) = (images(dir.path(), 3, 8), dir.path().join("run"));
    let space = dir.path().join("own.toml");
    let grey = "channels = 1\nmean = [0.4]\nstd = [0.25]\n";
    std::fs::write(&space, format!("name = \"own\"\nlike = \"tiny\"\nblock = \"basic\"\n{grey}"))?;
    let train = ["train", "--preset", s(&space), "--data", s(&data), "--out", s(&run), "--quiet"];
    expect(0, &[&train[..], &["--max-steps", "3", "train.batch=8", "moco.queue=64"]].concat());
    let export = ["--ckpt", s(&run), "--arch", "s8-w12.24.48.96-d2.1.3.1"];
    agrees(dir.path(), &export, &data, "x,c2,c3,c4,c5,pool,z")
}

fn tensorboard() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let (data, run) = (images(dir.path(), 4, 12), dir.path().join("run"));
    // Twelve steps, checkpoints every three: the first process ends after the eighth, and the next
    // one is told to go on from the sixth.
    expect(0, &train(&data, &run, &["--max-steps", "8", "--quiet"]));
    let sixth = run.join("checkpoints/step-00000006");
    expect(0, &train(&data, &run, &["--resume", s(&sixth), "--quiet"]));
    assert_eq!(steps_in_metrics(&run).len(), 12);
    script("events_agree.py", &[&run]).map(|_| ())
}
