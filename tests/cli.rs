//! The command line from outside: exit codes, messages, and what scripts read.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use engine::train::checkpoint::{self, State};
use serde_json::Value;

fn engine(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_engine")).args(args).output().unwrap()
}

/// Stdout of a run that must succeed.
fn stdout(args: &[&str]) -> String {
    let out = engine(args);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&stdout(args)).unwrap()
}

/// Exit code and stderr of a run that must fail without a result or a panic.
fn failure(args: &[&str]) -> (i32, String) {
    let out = engine(args);
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(out.stdout.is_empty() && !text.contains("fault in engine"), "{args:?}: {text}");
    (out.status.code().unwrap(), text)
}

#[test]
fn space_show_has_the_keys_that_scripts_read() {
    let v = json(&["space", "show", "data", "--json"]);
    let keys: Vec<&String> = v.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "preset",
            "resolution",
            "stem",
            "stages",
            "channels",
            "mean",
            "std",
            "block",
            "expansion",
            "count",
            "min",
            "max"
        ]
    );
    assert_eq!((v["resolution"].as_u64(), v["count"].as_u64()), (Some(224), Some(85_293)));
    let stem: Value =
        serde_json::from_str(r#"{"kernel":7,"stride":2,"maxpool":true,"widths":[32,48,64]}"#)
            .unwrap();
    assert_eq!(v["stem"], stem);
    let stage: Value =
        serde_json::from_str(r#"{"widths":[96,128,160],"depths":[2,4,6],"stride":2}"#).unwrap();
    assert_eq!(v["stages"][1], stage);
    assert_eq!(v["max"], "s64-w80.160.320.640-d4.6.29.4");
}

#[test]
fn space_counts_and_costs() {
    let v = json(&["space", "count", "data", "--json", "--groups", "1G..3G:1G"]);
    let expected = r#"{"preset":"data","total":85293,"groups":[
        {"lo":1000000000,"hi":2000000000,"count":34},{"lo":2000000000,"hi":3000000000,"count":1986}]}"#;
    assert_eq!(v, serde_json::from_str::<Value>(expected).unwrap());
    let v = json(&["space", "cost", "s64-w64.128.256.512-d3.4.6.3", "--json"]);
    let expected = r#"{"arch":"s64-w64.128.256.512-d3.4.6.3","preset":"data","resolution":224,
        "macs":4087136256,"conv_params":23454912,"params":23508032}"#;
    assert_eq!(v, serde_json::from_str::<Value>(expected).unwrap());
    let half = json(&["space", "cost", "s64-w64.128.256.512-d3.4.6.3", "--res", "112", "--json"]);
    assert!(half["macs"].as_u64() < v["macs"].as_u64() && half["params"] == v["params"]);
    // An architecture is found in the preset that it belongs to.
    for preset in ["data", "cifar", "tiny"] {
        for (name, key) in [("max", "max"), ("min", "min")] {
            let named = json(&["space", "cost", name, "--preset", preset, "--json"]);
            let shown = json(&["space", "show", preset, "--json"]);
            assert_eq!(named["arch"], shown[key]);
            let found = json(&["space", "cost", named["arch"].as_str().unwrap(), "--json"]);
            assert_eq!(found, named);
        }
    }
    assert_eq!(json(&["space", "cost", "r50", "--json"]), v);
    assert!(stdout(&["space", "show", "tiny"]).contains("17.0 MMACs"));
    assert_eq!(json(&["space", "list", "--json"])["presets"].as_array().unwrap().len(), 3);
    assert!(stdout(&["space", "count", "tiny"]).contains("total"));
}

#[test]
fn mistakes_exit_2_and_name_the_nearest() {
    for (args, says) in [
        (&["spcae"][..], "space"),
        (&["space", "show", "dta"], "\"data\""),
        (&["space", "cost", "s80-w48.96.192.384-d2.2.5.2"], "stem width is 80"),
        (&["space", "cost", "resnet50"], "expected s<stem>"),
        (&["space", "cost", "s32-w48.96.192.384-d2.2.5.2", "--res", "0"], "--res"),
        (&["space", "count", "data", "--groups", "8G..1G:1G"], "lo below hi"),
        (&["space", "list", "--jsno"], "--json"),
        (&["config", "show", "--preset", "tinny"], "\"tiny\""),
        (&["config", "show", "train.bacth=3"], "\"train.batch\""),
        (&["config", "show", "lr=0.1"], "\"train.lr\""),
        (&["config", "show", "optimizer.queue=5"], ".queue\""),
        (&["config", "validate", "/dev/zero"], "expected a regular file, found a device"),
        (&["config", "show", "train.batch=1"], "train.batch = 1 (command line)"),
        (&["config", "show", "--method", "mocco"], "'moco'"),
        (&["config", "validate", "absent.toml"], "absent.toml"),
        (&["train", "--data", "x"], "--out"),
        (&["search", "--ckpt", "x", "--data", "y", "--task", "clss"], "cls"),
        (&["search", "--ckpt", "x", "--data", "y"], "--task"),
        (&["eval", "nkn", "--ckpt", "x"], "<knn|linear|cls|det|seg>"),
        (&["eval", "knn", "--ckpt", "x", "--epochs", "3"], "--epochs"),
        (&["search", "--ckpt", "x", "--data", "y", "--features", "c6"], "expected z, c2"),
        (&["search", "--ckpt", "x", "--data", "y", "--task", "cls", "--bn", "bach"], "'batch'"),
        (&["space", "cost", "max"], "--preset, one of data, cifar, tiny"),
        (&["space", "cost", "winner"], "in a run alone"),
        (&["space", "cost", "r50", "--preset", "tiny"], "r50: s64-w64"),
        (&["bench", "chek"], "'check'"),
        (&["--device", "cudda", "doctor"], "\"cuda\""),
        (&["--threads", "-1", "doctor"], "-1"),
        (&["--precision", "fp16", "doctor"], "fp32"),
        (&[], "Usage"),
    ] {
        let out = engine(args);
        let text = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2), "{args:?}: {text}");
        assert!(text.contains(says), "{args:?}: {text}");
    }
}

#[test]
fn devices_that_are_not_here_exit_5() {
    // Where nvcc was at hand it is the GPU that is missing: there is none with this number.
    let out = engine(&["doctor", "--device", "cuda:99"]);
    let text = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(5), "{text}");
    let missing = ["no CUDA kernels", "no NVIDIA driver", "no GPU 99", "sees no GPU"];
    assert!(missing.iter().any(|m| text.contains(m)), "{text}");
    assert!(text.contains("--device cpu"), "{text}");
}

#[test]
#[cfg_attr(not(feature = "emulator"), ignore = "needs the cargo feature emulator")]
fn doctor_tells_what_is_here() {
    let text = stdout(&["doctor"]);
    for row in ["processor", "NVIDIA driver", "GPU kernels", "emulator", "device", "folder"] {
        assert!(text.lines().any(|l| l.starts_with(row)), "{row}: {text}");
    }
    let v = json(&["doctor", "--json"]);
    assert_eq!(v["folder"]["writable"], true);
    assert!(v["device"]["name"].is_string() && v["device"]["why"].is_string(), "{v}");
    assert!(v["cuda"]["gpus"].is_array() && v["emulator"]["kernels"].as_u64() > Some(0), "{v}");
    let emulated = json(&["doctor", "--json", "--device", "emulator"]);
    assert_eq!(emulated["device"]["name"], "emulator");
    if v["gpu_kernels"]["nvcc"].is_null() {
        assert_eq!(failure(&["doctor", "--kernels"]).0, 5);
    } else {
        assert!(stdout(&["doctor", "--kernels"]).contains("registers"));
        let kernels = json(&["doctor", "--kernels", "--json"]);
        assert!(kernels["kernels"][0]["registers"].as_u64() > Some(0), "{kernels}");
    }
}

#[test]
fn settings_are_shown_with_origins_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("run.toml");
    let path = file.to_str().unwrap();
    fs::write(&file, "preset = \"cifar\"\n[train]\nlr = 0.5\n").unwrap();
    let shown = stdout(&["config", "show", "-c", path, "train.batch=32", "--seed", "7"]);
    let line = |name: &str| shown.lines().find(|l| l.starts_with(name)).unwrap().to_owned();
    assert!(line("lr = 0.5").contains("line 3") && line("seed = 7").ends_with("# --seed"));
    assert!(
        line("batch = 32").ends_with("# command line") && line("hidden = 512").contains("cifar")
    );
    fs::write(&file, &shown).unwrap();
    let v = json(&["config", "show", "-c", path, "--json"]);
    assert_eq!(
        (v["config"]["train"]["batch"].as_u64(), v["config"]["seed"].as_u64()),
        (Some(32), Some(7))
    );
    assert!(stdout(&["config", "validate", path]).contains("valid"));
    fs::write(&file, "[train]\nlr = \"fast\"\n").unwrap();
    let (code, text) = failure(&["config", "validate", path]);
    assert!(code == 2 && text.contains("line 2") && text.contains("a number"), "{text}");
    fs::write(&file, "[train\n").unwrap();
    assert_eq!(failure(&["config", "validate", path]).0, 2);
}

fn write_tensors(path: &Path) {
    let tensors =
        [("w".to_owned(), vec![2, 3], vec![1.0; 6]), ("b".to_owned(), vec![4], vec![0.0; 4])];
    engine::files::write_safetensors(path, &tensors, &[("preset", "tiny".into())]).unwrap();
}

#[test]
fn inspect_lists_tensors() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.safetensors");
    write_tensors(&file);
    let v = json(&["inspect", file.to_str().unwrap(), "--json"]);
    assert_eq!((v["numbers"].as_u64(), v["verified"].as_bool()), (Some(10), Some(false)));
    assert_eq!(v["metadata"]["preset"], "tiny");
    assert!(stdout(&["inspect", file.to_str().unwrap()]).contains("[2, 3]"));
}

#[test]
fn inspect_refuses_what_is_truncated_or_tampered_with() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.safetensors");
    let path = file.to_str().unwrap();
    write_tensors(&file);
    let whole = fs::read(&file).unwrap();
    for cut in [0, 7, 8, 40, whole.len() - 1] {
        fs::write(&file, &whole[..cut]).unwrap();
        assert_eq!(failure(&["inspect", path]).0, 3, "cut at {cut}");
    }
    let mut huge = whole.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    fs::write(&file, &huge).unwrap();
    assert_eq!(failure(&["inspect", path]).0, 3);
    let hash = blake3::hash(&whole).to_hex();
    let config = format!(r#"{{"hashes":{{"model.safetensors":"{hash}"}}}}"#);
    fs::write(dir.path().join("config.json"), config).unwrap();
    fs::write(&file, &whole).unwrap();
    assert_eq!(json(&["inspect", dir.path().to_str().unwrap(), "--json"])["verified"], true);
    let mut tampered = whole;
    *tampered.last_mut().unwrap() ^= 1;
    fs::write(&file, &tampered).unwrap();
    let (code, text) = failure(&["inspect", path]);
    assert!(code == 3 && text.contains("hash"), "{text}");
    assert_eq!(failure(&["inspect", dir.path().join("absent").to_str().unwrap()]).0, 3);
}

#[test]
fn inspect_knows_runs_and_their_checkpoints() {
    let run = tempfile::tempdir().unwrap();
    let root = run.path().join("checkpoints");
    let state = r#"{"step":5,"steps":9,"seed":1,"preset":"tiny","method":"moco","data_cursor":0,
        "sampler_cursor":0,"queue_pointer":0,"pictures":7,"time_s":0.0,"collapsed_steps":0,
        "config":{},"hashes":{}}"#;
    let state: State = serde_json::from_str(state).unwrap();
    let contents = vec![("student", vec![("w".to_owned(), vec![2], vec![1.0, 2.0])])];
    let dir = checkpoint::write(&root, state, &contents, 2).unwrap();
    fs::create_dir(root.join("step-00000009")).unwrap();
    let path = run.path().to_str().unwrap();
    let v = json(&["inspect", path, "--json"]);
    assert_eq!((v["step"].as_u64(), v["preset"].as_str()), (Some(5), Some("tiny")));
    assert_eq!(v["files"]["student"]["numbers"], 2);
    assert_eq!(v["checkpoints"]["step-00000005"], true);
    assert_eq!(v["checkpoints"]["step-00000009"], false);
    assert!(stdout(&["inspect", path]).contains("step-00000009  incomplete"));
    let weights = dir.join("student.safetensors");
    assert_eq!(json(&["inspect", weights.to_str().unwrap(), "--json"])["verified"], true);
    let incomplete = root.join("step-00000009");
    assert_eq!(failure(&["inspect", incomplete.to_str().unwrap()]).0, 3);
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, bytes).unwrap();
    for damaged in [path, weights.to_str().unwrap()] {
        let (code, text) = failure(&["inspect", damaged]);
        assert!(code == 3 && text.contains("hash"), "{text}");
    }
}

#[test]
fn settings_are_explained_as_in_the_documentation() {
    // After a change: engine config show --explain --markdown > docs/settings.md
    let page = fs::read_to_string("docs/settings.md").unwrap();
    assert!(
        stdout(&["config", "show", "--explain", "--markdown"]) == page,
        "docs/settings.md is old"
    );
    let text = stdout(&["config", "show", "--explain", "--preset", "tiny", "train.lr=0.5"]);
    assert!(text.contains("train.lr = 0.5   (command line)\n    Learning rate"), "{text}");
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("sandwich: The largest, the smallest and one"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    let all = json(&["config", "show", "--explain", "--json"]);
    let keys = all["settings"].as_array().unwrap();
    assert_eq!(keys.len(), engine::config::KEYS.len());
    let lr = keys.iter().find(|key| key["key"] == "train.lr").unwrap();
    assert_eq!((&lr["defaults"]["tiny"], &lr["allowed"]), (&0.01.into(), &"0 to 1000".into()));
    assert!(lr["follows"].as_str().unwrap().contains("train.batch"), "{lr}");
}

#[test]
fn the_log_level_is_one_of_three() {
    let run = |level: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
        command.env("ENGINE_LOG", level).args(["space", "list"]).output().unwrap()
    };
    assert!(["warn", "info", "debug", ""].map(run).iter().all(|out| out.status.success()));
    let out = run("loud");
    let text = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(text.contains("ENGINE_LOG") && text.contains("warn, info or debug"), "{text}");
    assert!(stdout(&["--help"]).contains("ENGINE_LOG"));
}

#[test]
fn the_version_names_the_commit_if_there_is_one() {
    let text = stdout(&["--version"]);
    let rest = text.trim_end().strip_prefix("engine 0.1.0").unwrap();
    let commit = rest.strip_prefix(" (").and_then(|rest| rest.strip_suffix(')'));
    let is_hash = |c: &str| c.len() >= 7 && c.bytes().all(|b| b.is_ascii_hexdigit());
    assert_eq!(commit.is_some(), Path::new(".git").exists(), "{text}");
    assert!(commit.is_none_or(is_hash), "{text}");
}

#[test]
fn bench_is_a_verb_too() {
    assert!(stdout(&["bench", "--help"]).contains("engine bench"));
    assert!(stdout(&["bench", "step", "--help"]).contains("--iterations"));
    let check = stdout(&["bench", "check", "--device", "cpu", "--filter", "relu"]);
    assert!(check.trim_end().lines().last().unwrap().ends_with("skipped"), "{check}");
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    // It has left before the first byte is written.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
    command.args(["config", "show"]).stdout(writer).stderr(Stdio::piped());
    let out = command.spawn().unwrap().wait_with_output().unwrap();
    assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
}

#[test]
fn every_verb_has_help() {
    for verb in [
        "quickstart",
        "train",
        "search",
        "finetune",
        "eval",
        "study",
        "embed",
        "export",
        "space",
        "data",
        "config",
        "inspect",
        "report",
        "doctor",
        "completions",
        "man",
    ] {
        assert!(stdout(&[verb, "--help"]).contains("Usage"), "{verb}");
    }
    assert!(stdout(&["--help"]).contains("Exit codes"));
}
