//! The whole program on inputs that somebody made to block it, or to write where they should not.

mod common;

use std::fs;
use std::process::Command;

use common::{engine, expect, images, run, s};

fn fifo(path: &std::path::Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn pipes_are_refused_and_never_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    fifo(&pipe);
    let out = dir.path().join("out");
    let (_, e) = expect(3, &["train", "--preset", "tiny", "--data", s(&pipe), "--out", s(&out)]);
    assert!(e.contains("found a pipe (FIFO)"), "{e}");
    let root = images(dir.path(), 2, 4);
    let set = s(&root);
    let train = ["train", "--preset", "tiny", "--data", set, "--out", s(&out), "-c", s(&pipe)];
    let (_, e) = expect(2, &train);
    assert!(e.contains("config file") && e.contains("found a pipe (FIFO)"), "{e}");
    fifo(&root.join("class0/pipe.png"));
    let (listed, _) = expect(3, &["data", "check", set]);
    assert!(listed.contains("pipe.png: expected a regular file"), "{listed}");
    assert!(listed.contains("unreadable    1\n"), "{listed}");
}

#[test]
fn limits_come_from_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let root = images(dir.path(), 1, 2);
    let check = |variable: &str, value: &str| {
        let out = engine(&["data", "check", s(&root)]).env(variable, value).output().unwrap();
        let text = [out.stdout, out.stderr].concat();
        (out.status.code(), String::from_utf8(text).unwrap())
    };
    assert_eq!(check("ENGINE_MAX_PIXELS", "1024").0, Some(0));
    let (code, text) = check("ENGINE_MAX_PIXELS", "1023");
    assert!(code == Some(3) && text.contains("claims to be 32x32"), "{text}");
    let (code, text) = check("ENGINE_MAX_DECODE_BYTES", "4K");
    assert!(code == Some(3) && text.contains("set that higher"), "{text}");
    let (code, text) = check("ENGINE_MAX_FILE_BYTES", "some");
    assert!(code == Some(2) && text.contains("such as 512M"), "{text}");
    let (code, text) = check("ENGINE_MAX_FILES", "4");
    assert!(code == Some(2) && text.contains("there is no environment variable"), "{text}");
}

#[test]
fn names_cannot_write_to_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let root = images(dir.path(), 1, 2);
    let name = "x\x1b]0;title\x07\nerror: y.png";
    fs::write(root.join("class0").join(name), "no image").unwrap();
    fs::create_dir(root.join("a\x1b[31mb\nc")).unwrap();
    fs::copy(root.join("class0/0000.png"), root.join("a\x1b[31mb\nc/0.png")).unwrap();
    for verb in ["check", "stats"] {
        let out = run(&["data", verb, s(&root)]);
        let text = String::from_utf8([out.stdout, out.stderr].concat()).unwrap();
        assert!(text.contains(r"x\x1b]0;title\x07\nerror: y.png"), "{text}");
        assert!(!text.contains(['\x1b', '\x07']), "{text}");
        assert!(text.lines().all(|line| !line.starts_with("error: y")), "{text}");
    }
    let json = run(&["data", "check", s(&root), "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert!(json["corrupt"][0]["file"].as_str().unwrap().ends_with(name));
    let nowhere = dir.path().join("no\x1bwhere\nat all");
    let (_, e) = expect(3, &["data", "check", s(&nowhere)]);
    assert!(e.contains(r"no\x1bwhere\nat all") && e.lines().count() == 1, "{e}");
}
