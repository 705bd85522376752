//! `engine export` of nets for segmentation and detection, on tiny runs; where Python has torch and
//! torchvision, `model.py` of each export says what the program said.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use common::python::{Needs, Test, finish};
use common::{expect, s};
use engine::files::read_safetensors;
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;

/// What `model.py` imports, and pycocotools.
const NEEDS: Needs = Needs {
    folder: ".torch",
    script: "torch, torchvision, pillow, safetensors and pycocotools",
    variable: "ENGINE_REQUIRE_TORCH",
};

const TESTS: [Test; 3] = [
    ("exports_are_read_back_and_scored_as_their_runs", read_back),
    ("damaged_exports_and_layouts_that_do_not_fit_are_refused", refused),
    ("detectron2_and_mmdet_have_their_names", other_libraries),
];
const OF_PYTHON: [Test; 1] = [("model_py_says_what_the_program_said", model_py)];

fn main() {
    let imports = "import torch, torchvision, PIL, safetensors, pycocotools";
    let has = finish(NEEDS.interpreter().args(["-c", imports])).is_ok();
    let args = Arguments::from_args();
    let trials = TESTS.map(|(name, test)| Trial::test(name, test)).into_iter();
    let python = NEEDS.trials(has, &OF_PYTHON);
    libtest_mimic::run(&args, trials.chain(python).collect()).exit()
}

/// Settings that make steps of little work.
const DET: &[&str] = &[
    "det.short_min=64",
    "det.short_max=64",
    "det.short_test=64",
    "det.long=64",
    "det.channels=16",
    "det.fc=32",
    "det.roi_batch=16",
];

/// A run and what it is about.
struct Given {
    dir: tempfile::TempDir,
}

impl Given {
    fn new(test: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("shapes");
        let sizes = ["--images", "12", "--test", test, "--side", "64"];
        expect(0, &[&["data", "shapes", "--out", s(&out)][..], &sizes].concat());
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn split(&self, name: &str) -> String {
        format!("{}#{name}", s(&self.path("shapes")))
    }

    fn finetune(&self, task: &str, preset: &str, out: &str, more: &[&str]) -> PathBuf {
        let (train, test, out) = (self.split("train"), self.split("test"), self.path(out));
        let net = ["finetune", "--task", task, "--arch", "min", "--preset", preset, "--scratch"];
        let on = ["--data", &train, "--val-data", &test, "--out", s(&out), "--quiet"];
        let small = if task == "seg" { &["seg.crop=48", "seg.channels=16"] } else { DET };
        expect(0, &[&net[..], &on, &["train.batch=4"], small, more].concat());
        out
    }

    fn export(&self, code: i32, run: &Path, out: &str, more: &[&str]) -> (PathBuf, String) {
        let out = self.path(out);
        let args = ["export", "--ckpt", s(run), "--out", s(&out), "--quiet"];
        let (said, complaint) = expect(code, &[&args[..], more].concat());
        (out, said + &complaint)
    }
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn names(path: &Path) -> BTreeSet<String> {
    read_safetensors(path).unwrap().0.into_keys().collect()
}

fn read_back() -> Result<(), Failed> {
    let given = Given::new("4");
    let test = given.split("test");
    for (task, more) in [
        ("seg", &["finetune.steps=12"][..]),
        ("det-c4", &["finetune.steps=12", "finetune.bn=batch"]),
        ("det-fpn", &["finetune.steps=12", "det.box_head=4conv1fc", "det.head_norm=true"]),
    ] {
        let run = given.finetune(task, "tiny", task, more);
        let (out, said) = given.export(0, &run, &format!("{task}-out"), &["--json"]);
        let said: Value = serde_json::from_str(&said)?;
        assert_eq!((&said["task"], &said["parity"]["ok"]), (&task.into(), &true.into()));
        let proof = read(&out.join("parity.json"));
        let tensors = names(&out.join("model.safetensors")).len();
        assert_eq!(
            (&proof["tensors"]["torchvision"], &proof["images"]),
            (&tensors.into(), &4.into())
        );
        let config = read(&out.join("config.json"));
        assert_eq!(
            config["classes"].as_array().map(Vec::len),
            Some(if task == "seg" { 4 } else { 3 })
        );
        assert!(fs::read_to_string(out.join("README.md"))?.contains("from model import load"));

        let verb = if task == "seg" { "seg" } else { "det" };
        let score = |source: [&str; 2]| -> Result<Value, Failed> {
            let args = [&["eval", verb, "--data", &test, "--json"][..], &source].concat();
            Ok(serde_json::from_str(&expect(0, &args).0)?)
        };
        assert_eq!(score(["--model", s(&out)])?, score(["--ckpt", s(&run)])?, "{task}");
    }
    Ok(())
}

fn refused() -> Result<(), Failed> {
    let given = Given::new("2");
    let run = given.finetune("seg", "tiny", "seg", &["finetune.steps=2"]);
    for (layout, reason) in [
        ("detectron2", "detectron2 has no such head; expected torchvision"),
        ("mmdet", "its stem is not a 7×7 convolution of stride 2 and a max-pool"),
        ("onnx", "onnx holds backbones"),
    ] {
        let (out, said) = given.export(2, &run, "out", &["--layout", layout]);
        assert!(said.contains(reason) && !out.exists(), "{layout}: {said}");
    }
    let (out, _) = given.export(0, &run, "out", &[]);
    assert!(given.export(2, &run, "out", &[]).1.contains("--overwrite"));
    given.export(0, &run, "out", &["--overwrite", "--bn-data", s(&given.path("shapes/train"))]);
    let (model, test) = (s(&out), given.split("test"));
    let eval = |verb| ["eval", verb, "--model", model, "--data", &test];
    let said = expect(2, &eval("det")).1;
    assert!(said.contains("of a net for seg: expected one for det-c4 or det-fpn"), "{said}");
    let weights = out.join("model.safetensors");
    let mut bytes = fs::read(&weights)?;
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, bytes)?;
    assert!(expect(3, &eval("seg")).1.contains("was changed: its BLAKE3 is"));
    Ok(())
}

fn other_libraries() -> Result<(), Failed> {
    let given = Given::new("2");
    let space = given.path("own.toml");
    fs::write(
        &space,
        "name = \"own\"\nlike = \"tiny\"\nblock = \"bottleneck\"\n\n[stem]\nkernel = 7\nstride = 2\nmaxpool = true\n\
         widths = [8]\n",
    )?;
    let both = ["--layout", "detectron2,mmdet"];
    let words = ["finetune.steps=2", "finetune.bn=batch"];
    let run = given.finetune("det-fpn", s(&space), "fpn", &words);
    let (out, _) = given.export(0, &run, "fpn-out", &both);
    let detectron2 = names(&out.join("detectron2/model.safetensors"));
    let mmdet = names(&out.join("mmdet/model.safetensors"));
    assert_eq!(detectron2.len(), mmdet.len());
    for name in [
        "backbone.bottom_up.stem.conv1.norm.running_mean",
        "backbone.bottom_up.res5.0.shortcut.weight",
        "backbone.fpn_output5.norm.weight",
        "roi_heads.mask_head.mask_fcn4.bias",
    ] {
        assert!(detectron2.contains(name), "{name}: {detectron2:?}");
    }
    for name in ["backbone.layer4.0.downsample.0.weight", "neck.fpn_convs.3.bn.weight"] {
        assert!(mmdet.contains(name), "{name}: {mmdet:?}");
    }
    // MMDetection has no batch norm behind the last stage.
    let run = given.finetune("det-c4", s(&space), "c4", &words);
    let (out, _) = given.export(0, &run, "c4-out", &["--layout", "detectron2"]);
    assert!(names(&out.join("detectron2/model.safetensors")).contains("roi_heads.res5.norm.bias"));
    let said = given.export(2, &run, "c4-mm", &["--layout", "mmdet"]).1;
    assert!(
        said.contains("no place for res5.norm.weight; expected torchvision or detectron2"),
        "{said}"
    );
    Ok(())
}

fn model_py() -> Result<(), Failed> {
    let given = Given::new("20");
    let (images, truth) = (given.path("shapes/test"), "shapes/annotations/instances_test.json");
    let truth = given.path(truth);
    let steps = ["finetune.steps=60", "train.lr=0.01", "finetune.lr_head=0.01"];
    for (name, task, more) in [
        ("seg", "seg", &[][..]),
        ("slide", "seg", &["seg.test=slide", "seg.slide=31", "seg.long=100", "seg.short=90"]),
        ("c4", "det-c4", &["finetune.bn=batch"]),
        ("fpn", "det-fpn", &["finetune.bn=batch"]),
        ("convs", "det-fpn", &["det.box_head=4conv1fc", "det.head_norm=true"]),
    ] {
        let run = given.finetune(task, "tiny", name, &[&steps[..], more].concat());
        let (out, _) = given.export(0, &run, &format!("{name}-out"), &[]);
        let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/check_dense_export.py");
        let mut python = NEEDS.interpreter();
        python.args([s(&tool), s(&out), s(&run), s(&images)]);
        if task != "seg" {
            python.arg(&truth);
            let found = read(&run.join("detections.json")).as_array().map_or(0, Vec::len);
            assert!(found > 20, "{name}: {found} objects are too few to compare");
        }
        finish(&mut python)?;
    }
    Ok(())
}
