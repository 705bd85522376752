//! What people see: widths, colours, and help, on a terminal of a given size.

mod common;

use std::fs;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Command, Stdio};

use common::expect;

/// What the program writes to a terminal of so many columns, stdout and stderr together, without
/// what clears a line.
fn on_terminal(columns: u16, env: &[(&str, &str)], args: &[&str]) -> String {
    let size = libc::winsize { ws_row: 40, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let (mut ours, mut theirs) = (0, 0);
    let name = std::ptr::null_mut();
    // SAFETY: both descriptors have a place, and no name is asked for.
    let rc = unsafe { libc::openpty(&mut ours, &mut theirs, name, std::ptr::null(), &size) };
    assert_eq!(rc, 0);
    // SAFETY: they are open, and nobody else's.
    let (ours, theirs) = unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
    let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
    command.args(args).env_remove("NO_COLOR").env("TERM", "xterm").envs(env.iter().copied());
    command.stdout(theirs.try_clone().unwrap()).stderr(theirs).stdin(Stdio::null());
    let mut child = command.spawn().unwrap();
    // It holds the terminal's other end too.
    drop(command);
    let mut bytes = Vec::new();
    // It ends with an error: nobody is at the other end any more.
    let _ = fs::File::from(ours).read_to_end(&mut bytes);
    child.wait().unwrap();
    String::from_utf8(bytes).unwrap().replace("\r\n", "\n").replace("\r\x1b[2K", "")
}

/// A text without its colours.
fn plain(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |out, part| out + part.split_once('m').unwrap().1)
}

#[test]
fn errors_look_as_claps_do() {
    let [own, claps] =
        [&["space", "show", "dta"][..], &["spcae"]].map(|args| on_terminal(80, &[], args));
    let prefix = |text: &str| text.split("error:").next().unwrap().to_owned();
    assert!(own.contains('\x1b') && prefix(&own) == prefix(&claps), "{own:?} {claps:?}");
    let plain = on_terminal(80, &[("NO_COLOR", "1")], &["space", "show", "dta"]);
    assert!(plain.starts_with("error: unknown preset") && !plain.contains('\x1b'), "{plain:?}");
}

#[test]
fn nothing_is_wider_than_the_terminal() {
    let verbs = ["train", "search", "embed", "export", "quickstart", "data", "inspect", "report"];
    let help = |verb: &'static str| vec![verb, "--help"];
    let mut all: Vec<Vec<&str>> = verbs.into_iter().map(help).collect();
    all.extend([
        vec![],
        vec!["--help"],
        vec!["eval", "knn", "--help"],
        vec!["eval", "linear", "--help"],
        vec!["eval", "det", "--help"],
        vec!["eval", "seg", "--help"],
        vec!["space", "cost", "--help"],
        vec!["space", "list"],
        vec!["space", "show", "data"],
        vec!["space", "cost", "r50"],
        vec!["doctor"],
        vec!["config", "show", "--explain"],
        vec!["space", "cost", "s80-w64.128.256.512-d3.4.6.3"],
        vec!["--device", "cudda", "doctor"],
        "bench kernels --device emulator --preset tiny --archs min --filter ^avg_pool/"
            .split(' ')
            .collect(),
        "bench step --device cpu --preset tiny --batch 4 --queue 64 --iterations 1 --peak-gbs 20"
            .split(' ')
            .collect(),
    ]);
    for args in &all {
        for columns in [80, 120] {
            let text = plain(&on_terminal(columns, &[], args));
            assert!(!text.trim().is_empty(), "{args:?} says nothing");
            for line in text.lines() {
                assert!(line.chars().count() <= columns.into(), "{args:?}: {line}\n{text}");
            }
        }
    }
    let bare = plain(&on_terminal(80, &[], &[]));
    assert!(
        bare.lines().count() <= 24 && bare.contains("Begin with `engine quickstart`"),
        "{bare}"
    );
}

#[test]
fn help_shows_what_does_something() {
    let help = |args: &[&str]| expect(0, &[args, &["--help"]].concat()).0;
    let train = help(&["train"]);
    assert!(train.contains("Global options:") && train.contains("--device "), "{train}");
    assert!(!train.contains("--deterministic"), "{train}");
    let space = help(&["space", "cost"]);
    assert!(space.contains("--json") && !space.contains("--device"), "{space}");
    assert!(help(&["config", "show"]).contains("--seed"));
    assert!(help(&["eval", "linear"]).contains("--epochs"));
    assert!(!help(&["eval", "knn"]).contains("--epochs"));
    let det = help(&["eval", "det"]);
    assert!(det.contains("--threads") && !det.contains("--device"), "{det}");
    // What is hidden is still taken.
    expect(0, &["space", "list", "--device", "cpu", "--deterministic"]);
}
