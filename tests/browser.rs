//! What a browser makes of our pages: no error, no request, nothing wider than the screen, names and
//! contrasts by axe-core, tables that sort, dots that say their values, charts that zoom, and all of
//! it to be read without scripts. The browser is Chromium; `scripts/install-browser` gets it and the
//! libraries that drive it. Without them these tests are ignored, and `ENGINE_REQUIRE_BROWSER=1`,
//! which CI sets, makes that a failure.

mod common;

use std::path::Path;

use common::python::{Needs, Test, finish};
use common::{expect, images, s};
use libtest_mimic::Failed;

const NEEDS: Needs = Needs {
    folder: ".browser",
    script: "scripts/install-browser",
    variable: "ENGINE_REQUIRE_BROWSER",
};

const TESTS: [Test; 4] = [
    ("pages_of_runs_with_labels", with_labels),
    ("the_page_of_a_run_without_labels", without_labels),
    ("the_page_of_a_fine_tuned_net", fine_tuned),
    ("pages_of_annotated_images", annotated),
];

fn main() {
    NEEDS.run(script("drive.py", &[]).is_ok(), &TESTS)
}

/// Runs a script of `tests/browser`.
fn script(name: &str, args: &[&str]) -> Result<(), Failed> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    finish(NEEDS.interpreter().arg(scripts.join(name)).args(args)).map(drop)
}

/// The whole job on drawn images, as small as shows that all works.
fn quickstart(dir: &Path, more: &[&str]) {
    expect(0, &[&["quickstart", "--quiet", "--scale", "0.02", "--out", s(dir)], more].concat());
}

fn with_labels() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    // Names may be wider than a screen.
    let long = "first_".repeat(20);
    let [first, second] = [&*long, "second"].map(|name| dir.path().join(name));
    quickstart(&first, &[]);
    quickstart(&second, &["--seed", "1"]);
    expect(0, &["report", s(&first), s(&second)]);
    let search = first.join("search/cls-shapes/report.html");
    let linear =
        ["eval", "linear", "--arch", "max", "--epochs", "2", "--quiet", "--ckpt", s(&first)];
    let [train, test] =
        ["train", "test"].map(|part| format!("{}#{part}", first.join("images/shapes").display()));
    expect(0, &[&linear[..], &["--data", &train, "--test-data", &test]].concat());
    expect(0, &["report", s(&first)]);
    script(
        "check_page.py",
        &[
            &format!(
                "{}=scatter,table,command,neighbours,confusion,map",
                s(&first.join("report.html"))
            ),
            &format!("{}=scatter,table,command", s(&search)),
            &format!("{}=table", s(&first.join("comparison.html"))),
        ],
    )
}

fn without_labels() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let (data, run) = (images(dir.path(), 1, 40), dir.path().join("run"));
    quickstart(&run, &["--data", s(&data)]);
    script(
        "check_page.py",
        &[&format!("{}=scatter,table,neighbours,map", s(&run.join("report.html")))],
    )
}

fn fine_tuned() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let (data, run) = (images(dir.path(), 3, 8), dir.path().join("run"));
    let net = ["finetune", "--task", "cls", "--scratch", "--arch", "s8-w8.16.32.64-d1.1.2.1"];
    let on = ["--data", s(&data), "--val-data", s(&data), "--out", s(&run), "--quiet"];
    expect(0, &[&net[..], &on, &["finetune.steps=4", "train.batch=8"]].concat());
    expect(0, &["report", s(&run)]);
    script("check_page.py", &[&format!("{}=table,confusion", s(&run.join("report.html")))])
}

fn annotated() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let shapes = dir.path().join("shapes");
    let few = ["--images", "8", "--test", "10", "--side", "64", "--quiet"];
    expect(0, &[&["data", "shapes", "--out", s(&shapes)], &few[..]].concat());
    let [train, test] = ["train", "test"].map(|split| format!("{}#{split}", shapes.display()));
    let mut pages = Vec::new();
    for (task, settings, parts) in [
        ("seg", "seg.crop=48", "table,confusion,gallery"),
        ("det-fpn", "det.short_test=64", "table,gallery,boxes"),
    ] {
        let run = dir.path().join(task);
        let net = ["finetune", "--task", task, "--scratch", "--arch", "s8-w8.16.32.64-d1.1.2.1"];
        let on = ["--data", &train, "--val-data", &test, "--out", s(&run), "--quiet", settings];
        expect(0, &[&net[..], &on, &["finetune.steps=4", "train.batch=4"]].concat());
        expect(0, &["report", s(&run)]);
        pages.push(format!("{}={parts}", run.join("report.html").display()));
    }
    script("check_page.py", &pages.iter().map(String::as_str).collect::<Vec<_>>())
}
