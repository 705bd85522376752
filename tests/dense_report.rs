//! What tests on annotated images leave for `engine report` and `engine inspect`, and what these make
//! of it.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{expect, s};
use serde_json::Value;
use tempfile::TempDir;

const ARCH: &str = "s8-w8.16.32.64-d1.1.2.1";

/// Drawn images, and runs on them.
struct Given {
    dir: TempDir,
    train: String,
    test: String,
}

impl Given {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("shapes");
        let size = ["--images", "8", "--test", "11", "--side", "64", "--quiet"];
        expect(0, &[&["data", "shapes", "--out", s(&out)], &size[..]].concat());
        let [train, test] = ["train", "test"].map(|split| format!("{}#{split}", out.display()));
        Self { dir, train, test }
    }

    /// A run of a few steps, with more settings.
    fn run(&self, name: &str, task: &str, more: &[&str]) -> PathBuf {
        let run = self.dir.path().join(name);
        let net = ["finetune", "--task", task, "--scratch", "--arch", ARCH, "--preset", "tiny"];
        let data = ["--data", &self.train, "--val-data", &self.test, "--out", s(&run), "--quiet"];
        let few = ["finetune.steps=3", "train.batch=2"];
        expect(0, &[&net[..], &data, &few, more].concat());
        run
    }
}

/// The file of results in `RUN/eval` or `RUN/eval/details`.
fn only(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let files: Vec<PathBuf> = files.filter(|path| path.is_file()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn page(run: &Path) -> String {
    expect(0, &["report", s(run)]);
    fs::read_to_string(run.join("report.html")).unwrap()
}

fn expect_parts(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(page.contains(part), "no {part:?}");
    }
}

/// Nothing that only a run without labels has.
fn expect_no_embeddings(page: &str) {
    let text = page.split("<main").nth(1).unwrap();
    for word in ["collapse", "Spread of", "student net", "No evaluation yet", "No search yet"] {
        assert!(!text.contains(word), "{word:?}");
    }
}

#[test]
fn a_run_of_segmentation_is_shown() {
    let given = Given::new();
    let run = given.run("seg", "seg", &["seg.crop=48", "seg.channels=16"]);
    let (result, details) = (only(&run.join("eval")), only(&run.join("eval/details")));
    assert_eq!(result.file_name(), details.file_name());
    let (bytes, found) = (fs::read(&details).unwrap(), read(&details));
    assert_eq!(found["score"], read(&result)["miou"]);
    assert_eq!(found["images"].as_array().unwrap().len(), 11);
    let pixels: u64 =
        found["confusion"].as_array().unwrap().iter().map(|c| c[2].as_u64().unwrap()).sum();
    assert_eq!(pixels, 11 * 64 * 64, "every pixel has a class");
    let shares = |key: &str| -> Vec<f64> {
        found[key].as_array().unwrap().iter().map(|e| e["verdict"].as_f64().unwrap()).collect()
    };
    let (worst, best) = (shares("worst"), shares("best"));
    assert!(worst.len() == 6 && worst.is_sorted(), "{worst:?}");
    assert!(best.len() == 3 && best.iter().all(|share| share >= &worst[5]), "{best:?}");

    // The same bytes when it is tested again, by any number of threads.
    let again = ["eval", "seg", "--ckpt", s(&run), "--data", &given.test, "--threads", "2"];
    expect(0, &again);
    assert!(fs::read(&details).unwrap() == bytes);

    let text = page(&run);
    let parts = [
        "fine-tuned for seg",
        "Losses one by one",
        "<dt>mIoU</dt>",
        "1.4 ln 4 =",
        "Segmentation of shapes-test",
        "Confusion matrix",
        "Worst images first",
        "The best images",
        "aria-label=\"Colours of the classes\"",
        "<figcaption>predicted</figcaption>",
    ];
    expect_parts(&text, &parts);
    expect_no_embeddings(&text);
    assert_eq!(text.matches("<figcaption>truth</figcaption>").count(), 9);
    // Each image is in the page once, beside its two layers at most and the examples of training.
    let gallery = text.split("Worst images first").nth(1).unwrap();
    assert_eq!(gallery.matches("<image id=\"result-0-worst-0\"").count(), 1);
    assert!(text.len() < 1_500_000, "{} bytes", text.len());

    // Without details, or with those of another result, the page says less.
    let mut other = found;
    other["score"] = 0.99.into();
    fs::write(&details, other.to_string()).unwrap();
    let text = page(&run);
    assert!(text.contains("Segmentation of shapes-test") && !text.contains("Worst images first"));
    fs::remove_file(&details).unwrap();
    assert_eq!(page(&run), text);

    let (said, _) = expect(0, &["inspect", s(&run)]);
    expect_parts(&said, &["fine-tuned for seg: 4 classes", "mIoU ", "shapes#test (step 3)"]);
    assert!(!said.contains("method"), "{said}");
    fs::write(&result, r#"{"task": "seg"}"#).unwrap();
    assert!(expect(3, &["report", s(&run)]).1.contains("is not what engine finetune writes"));
}

#[test]
fn runs_of_detection_are_shown_and_compared() {
    let given = Given::new();
    let small = ["det.channels=16", "det.fc=32", "det.short_min=64", "det.short_max=64"];
    let small = [&small[..], &["det.short_test=64", "det.rpn_post_test=20"]].concat();
    let run = given.run("a", "det-fpn", &[&small[..], &["finetune.steps=4"]].concat());
    let details = only(&run.join("eval/details"));
    let (bytes, found) = (fs::read(&details).unwrap(), read(&details));
    assert_eq!(found["score"], read(&only(&run.join("eval")))["AP"]);
    let curve = found["classes"][0]["curves"][1].as_array().unwrap();
    assert_eq!(curve.len(), 101);
    let count = |key: &str| found[key].as_array().unwrap().len();
    assert_eq!((count("images"), count("worst"), count("best")), (11, 6, 3));
    let mistakes = |e: &Value| -> u64 {
        let of = |i: usize| e["verdict"][i].as_u64().unwrap();
        of(1) + of(2)
    };
    let worst: Vec<u64> = found["worst"].as_array().unwrap().iter().map(mistakes).collect();
    assert!(worst.is_sorted_by(|a, b| a >= b), "{worst:?}");
    // As many true boxes are missed as the verdict says.
    for example in found["worst"].as_array().unwrap() {
        let objects = example["truth"]["objects"].as_array().unwrap();
        let missed = objects.iter().filter(|o| o["is_right"] == false).count() as u64;
        assert_eq!(missed, example["verdict"][1].as_u64().unwrap());
    }
    let again = ["eval", "det", "--ckpt", s(&run), "--data", &given.test, "--threads", "2"];
    expect(0, &again);
    assert!(fs::read(&details).unwrap() == bytes);

    let text = page(&run);
    let parts = [
        "fine-tuned for det-fpn",
        "Losses one by one",
        "Anchors that hold an object",
        "<dt>AP of masks</dt>",
        "Objects in shapes-test",
        "Precision against recall at IoU 0.75",
        "Worst images first",
        "<figcaption>found</figcaption>",
        "missed",
    ];
    expect_parts(&text, &parts);
    expect_no_embeddings(&text);
    assert!(!text.contains("guessing"), "boxes have no loss of guessing");

    let other = given.run("b", "det-c4", &small);
    let text = page(&other);
    assert!(text.contains("Objects in shapes-test") && !text.contains("AP of masks"));
    let out = given.dir.path().join("both.html");
    expect(0, &["report", s(&run), s(&other), "--out", s(&out)]);
    let both = fs::read_to_string(&out).unwrap();
    expect_parts(
        &both,
        &["<td class=\"whole\">det-fpn AP</td>", "have no interval", "task or number"],
    );
    let same = given.run("c", "det-fpn", &[&small[..], &["--seed", "3"]].concat());
    expect(0, &["report", s(&run), s(&same), "--out", s(&out), "--overwrite"]);
    let both = fs::read_to_string(&out).unwrap();
    let row = both.split("det-fpn AP50</td>").nth(1).unwrap().split("</tr>").next().unwrap();
    assert!(row.matches('%').count() == 2 && !row.contains('–'), "{row}");
    assert!(both.contains("The sum of the losses of a batch"));
}

#[test]
fn a_run_that_has_not_ended_has_no_result() {
    let given = Given::new();
    let run = given.dir.path().join("run");
    let net = ["finetune", "--task", "seg", "--scratch", "--arch", ARCH, "--preset", "tiny"];
    let data = ["--data", &given.train, "--val-data", &given.test, "--out", s(&run), "--quiet"];
    let more = ["finetune.steps=9", "train.batch=2", "seg.crop=48", "--max-steps", "1"];
    expect(0, &[&net[..], &data, &more].concat());
    let text = page(&run);
    expect_parts(&text, &["No result yet", "href=\"#result\""]);
    expect_no_embeddings(&text);
}
