//! What a browser makes of our pages: no error, no request, nothing wider than the screen, names and
//! contrasts by axe-core, tables that sort, dots that say their values, charts that zoom, and all of
//! it to be read without scripts. The browser is Chromium; `scripts/install-browser` gets it and the
//! libraries that drive it. Without them these tests are ignored, and `ENGINE_REQUIRE_BROWSER=1`,
//! which CI sets, makes that a failure.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{expect, images, s};
use libtest_mimic::{Arguments, Failed, Trial};

type Test = fn() -> Result<(), Failed>;

const TESTS: [(&str, Test); 3] = [
    ("pages_of_runs_with_labels", with_labels),
    ("the_page_of_a_run_without_labels", without_labels),
    ("the_page_of_a_fine_tuned_net", fine_tuned),
];

fn main() {
    let has_browser = script("drive.py", &[]).is_ok();
    let is_required =
        std::env::var("ENGINE_REQUIRE_BROWSER").is_ok_and(|v| !v.is_empty() && v != "0");
    let tests = TESTS.map(|(name, test)| match has_browser || is_required {
        true => Trial::test(name, test),
        // The kind is printed before the name: it is the reason.
        false => Trial::test(name, test)
            .with_kind("needs scripts/install-browser")
            .with_ignored_flag(true),
    });
    libtest_mimic::run(&Arguments::from_args(), tests.into()).exit()
}

/// Runs a script of `tests/browser`.
fn script(name: &str, args: &[&str]) -> Result<(), Failed> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let installed = root.join(".browser/bin/python");
    let python = if installed.is_file() { installed } else { PathBuf::from("python3") };
    let mut command = Command::new(python);
    let out = command.arg(root.join("tests/browser").join(name)).args(args).output()?;
    let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    if out.status.success() { Ok(()) } else { Err(format!("{command:?}\n{said}").into()) }
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
