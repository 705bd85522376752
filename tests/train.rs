//! Training as a user meets it: killed and resumed, stopped, out of disk, diverging.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::runs::{
    assert_same_weights, kill, numbers, start_and_kill, start_and_wait, steps_in_metrics, train,
};
use common::{expect, images, s};

#[test]
fn killed_and_resumed_is_bit_identical_and_so_is_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    let whole = dir.path().join("whole");
    expect(0, &train(&data, &whole, &["--threads", "2"]));
    assert_eq!(steps_in_metrics(&whole), (0..12).collect::<Vec<_>>());

    let killed = dir.path().join("killed");
    for steps in [1, 4, 7] {
        let args = train(&data, &killed, &["--threads", "1", "--resume", "auto"]);
        start_and_kill(&args, &killed, steps);
    }
    expect(0, &train(&data, &killed, &["--threads", "3", "--resume", "auto"]));
    assert_same_weights(&whole, &killed);
    assert_eq!(steps_in_metrics(&killed), (0..12).collect::<Vec<_>>());
    let status = fs::read_to_string(killed.join("status.json")).unwrap();
    assert!(status.contains("\"done\""), "{status}");

    // The verdict remembers the steps before a kill.
    let health = |run: &Path| -> Vec<serde_json::Value> {
        let state = fs::read_to_string(run.join("checkpoints/last/state.json")).unwrap();
        let state: serde_json::Value = serde_json::from_str(&state).unwrap();
        assert_eq!(state["health"]["steps"], 12);
        let names = ["spread", "rank", "teacher_spread", "teacher_rank", "health"];
        let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let lines = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
        let values = lines.flat_map(|line| names.map(|name| line[name].clone()));
        std::iter::once(state["health"].clone()).chain(values).collect()
    };
    assert!(health(&whole).iter().all(|value| !value.is_null()));
    assert_eq!(health(&whole), health(&killed));
}

#[test]
fn probes_change_no_weight_and_are_written_once() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    let run = |name: &str| dir.path().join(name);
    let (bare, whole, killed) = (run("bare"), run("whole"), run("killed"));
    expect(0, &train(&data, &bare, &["--threads", "2"]));
    // The word behind --probe is a setting: the training images themselves are meant.
    let (_, log) =
        expect(0, &train(&data, &whole, &["--threads", "2", "--probe", "probe.every=4"]));
    assert!(log.contains("probe at step 0: kNN (k = 20) of MAX"), "{log}");
    assert!(log.contains("probe at step 12") && log.contains("(untrained "), "{log}");
    assert_same_weights(&bare, &whole);
    assert!(!bare.join("probe.jsonl").exists());
    for run in [&bare, &whole] {
        // ckpt.keep is 2.
        assert!(run.join("checkpoints/step-00000000/DONE").exists());
        assert_eq!(fs::read_dir(run.join("checkpoints")).unwrap().count(), 1 + 2 + 1);
    }

    for steps in [1, 4, 7] {
        let more = ["--threads", "1", "--resume", "auto", "--probe", s(&data), "probe.every=4"];
        start_and_kill(&train(&data, &killed, &more), &killed, steps);
    }
    let more = ["--threads", "3", "--resume", "--probe", s(&data), "probe.every=4"];
    expect(0, &train(&data, &killed, &more));
    assert_same_weights(&bare, &killed);
    let lines = |run: &Path| fs::read_to_string(run.join("probe.jsonl")).unwrap();
    assert_eq!(lines(&whole), lines(&killed));
    let probes: Vec<serde_json::Value> =
        lines(&whole).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let steps: Vec<u64> = probes.iter().map(|p| p["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [0, 4, 8, 12]);
    for probe in &probes {
        assert_eq!(
            (&probe["images"], &probe["k"], &probe["chance"]),
            (&48.into(), &20.into(), &0.25.into())
        );
        assert!(probe["pixels"].as_f64().unwrap() > 0.0 && probe["epoch"].is_f64());
        let nets = probe["nets"].as_array().unwrap();
        assert_eq!(nets.len(), 2);
        assert!(
            nets.iter().all(|n| n["knn"].is_f64() && n["stderr"].is_f64() && n["arch"].is_string())
        );
    }
    let status = fs::read_to_string(killed.join("status.json")).unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["probe"], probes[3]);
    // What is finished is not probed again, nor with other settings of the probe refused.
    expect(0, &train(&data, &killed, &["--resume", "--probe", "self", "probe.every=2"]));
    assert_eq!(lines(&whole), lines(&killed));

    let flat = data.join("class0");
    let (_, error) = expect(3, &train(&data, &run("other"), &["--probe", s(&flat)]));
    assert!(error.contains("--probe") && error.contains("folder for each class"), "{error}");
}

#[test]
fn term_checkpoints_and_can_be_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    let (whole, stopped) = (dir.path().join("whole"), dir.path().join("stopped"));
    // So long that it cannot end by itself before the signal comes.
    let long = "train.epochs=100000";
    let mut args = train(&data, &stopped, &[]);
    args.push(long);
    let mut child = start_and_wait(&args, &stopped, 2);
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(75));
    let status = fs::read_to_string(stopped.join("status.json")).unwrap();
    assert!(status.contains("\"stopped\""), "{status}");
    let done = steps_in_metrics(&stopped).len();
    assert!(stopped.join(format!("checkpoints/step-{done:08}/DONE")).exists(), "{done}");

    // Two steps more are those of a run that was not stopped.
    let steps = (done + 2).to_string();
    let on = |out: &Path, more: &[&str]| {
        let mut args = train(&data, out, &[more, &["--max-steps", &steps]].concat());
        args.push(long);
        expect(0, &args);
    };
    on(&stopped, &["--resume", "must"]);
    on(&whole, &[]);
    assert_eq!(steps_in_metrics(&stopped), (0..done as u64 + 2).collect::<Vec<_>>());
    assert_same_weights(&whole, &stopped);
}

#[test]
fn max_steps_does_not_change_the_schedule() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    expect(0, &train(&data, &whole, &["--max-steps", "7"]));
    expect(0, &train(&data, &parts, &["--max-steps", "4"]));
    expect(0, &train(&data, &parts, &["--max-steps", "7", "--resume", "auto"]));
    assert_same_weights(&whole, &parts);

    // A run that has nothing to do says where it stands, and forgets nothing.
    let (text, _) = expect(0, &train(&data, &parts, &["--max-steps", "2", "--resume", "auto"]));
    assert!(text.contains("stopped at step 7 of 12, loss ") && !text.contains("NaN"), "{text}");
    let status = fs::read_to_string(parts.join("status.json")).unwrap();
    assert!(status.contains("\"stopped\"") && !status.contains("\"loss\": null"), "{status}");
}

/// Images that are not there cost no existing run, and a damaged checkpoint, which might be repaired,
/// no other.
#[test]
fn mistakes_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    let (out, absent) = (dir.path().join("run"), dir.path().join("absent"));
    expect(0, &train(&data, &out, &["--max-steps", "6"]));
    expect(3, &train(&absent, &out, &["--overwrite"]));
    let dumps = s(dir.path());
    let beyond = ["--overwrite", "--dump-steps", "0,12", "--dump-dir", dumps];
    let (_, stderr) = expect(2, &train(&data, &out, &beyond));
    assert!(stderr.contains("--dump-steps 12: expected steps below 12"), "{stderr}");
    assert_eq!(steps_in_metrics(&out).len(), 6);
    for flag in ["--resume", "--overwrite"] {
        let (_, stderr) = expect(2, &train(&data, Path::new("/dev/null"), &[flag]));
        assert!(stderr.contains("is not a folder"), "{stderr}");
    }

    fs::write(out.join("checkpoints/step-00000006/state.json"), "{").unwrap();
    let (_, stderr) = expect(3, &train(&data, &out, &["--resume"]));
    assert!(stderr.contains("step-00000006") && stderr.contains("step-00000003"), "{stderr}");
    assert_eq!(steps_in_metrics(&out).len(), 6);
}

#[test]
fn a_folder_belongs_to_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    let out = dir.path().join("run");
    let mut long = train(&data, &out, &[]);
    long.push("train.epochs=100000");
    let child = start_and_wait(&long, &out, 1);
    for flag in ["--resume", "--overwrite"] {
        let (_, stderr) = expect(2, &train(&data, &out, &[flag]));
        assert!(stderr.contains("another process writes into"), "{stderr}");
    }
    kill(child);
}

#[test]
fn collapse_is_no_success() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    let out = dir.path().join("run");
    let harsh = ["train.lr=50", "moco.head_norm=false", "moco.queue_fill=random"];
    let mut args = train(&data, &out, &harsh);
    let (_, stderr) = expect(4, &args);
    assert!(stderr.contains("collapsed: at the end (step 12)"), "{stderr}");
    assert!(out.join("checkpoints/step-00000012/DONE").exists());
    args.extend(["guard.collapse=false", "--overwrite"]);
    expect(0, &args);
}

/// A collapse ends a run long before its end, and the message says what to change.
#[test]
fn a_collapse_stops_a_run_and_says_what_to_change() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 2, 8);
    let out = dir.path().join("run");
    let mut args = train(&data, &out, &["--threads", "2"]);
    args.extend(["train.batch=4", "train.accum=1", "moco.head_norm=false", "moco.symmetric=false"]);
    args.extend(["train.lr=20", "train.warmup_epochs=0", "train.epochs=1000", "log.every=100"]);
    args.extend(["views.crop_min=0.2", "moco.queue_fill=random"]);
    let (_, stderr) = expect(4, &args);
    let steps = steps_in_metrics(&out).len();
    assert!((200..=300).contains(&steps), "{steps}");
    let last = stderr.lines().last().unwrap();
    for part in [
        "error: training collapsed: for 200 steps",
        "spread 0.0",
        "rank",
        "expected",
        "moco.head_norm=true",
        "moco.queue_fill=teacher",
        "train.lr=",
        "train.warmup_epochs=",
        "views.crop_min=0.8",
        "guard.collapse=false",
    ] {
        assert!(last.contains(part), "no {part:?} in {last}");
    }
    let log = fs::read_to_string(out.join("train.log")).unwrap();
    let warnings: Vec<_> =
        log.lines().filter(|line| line.contains("Z warning: training")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("collapsed, was healthy"), "{warnings:?}");
    assert!(stderr.contains("warning: training is collapsed"), "{stderr}");
    let status = fs::read_to_string(out.join("status.json")).unwrap();
    assert!(status.contains("\"health\": \"collapsed\""), "{status}");

    let steps = (steps + 20).to_string();
    args.extend(["guard.collapse=false", "--overwrite", "--max-steps", &steps]);
    let (stdout, _) = expect(0, &args);
    assert!(stdout.contains("collapsed (spread 0.0"), "{stdout}");
}

#[test]
fn a_data_set_smaller_than_a_batch_is_warned_of_once() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 1, 6);
    let out = dir.path().join("run");
    let (_, stderr) = expect(0, &train(&data, &out, &["moco.queue_fill=teacher"]));
    assert_eq!(stderr.matches("6 images, fewer than a batch of 8").count(), 1, "{stderr}");
}

#[test]
fn images_that_were_replaced_are_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    fs::write(data.join("broken.jpg"), b"\xff\xd8\xff\xe0broken").unwrap();
    let out = dir.path().join("run");
    expect(0, &train(&data, &out, &[]));
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    let log = read("train.log");
    let line = log.lines().find(|line| line.contains("replaced an image")).unwrap();
    assert!(line.contains("broken.jpg") && line.contains("(1 so far)"), "{line}");
    assert!(read("status.json").contains("\"replaced\": 1"));
}

/// On the CPU, where operands of products alone are rounded.
#[test]
fn bf16_is_near_fp32_and_resumes_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    let run = |name: &str, more: &[&str]| {
        let out = dir.path().join(name);
        // At the preset's rate a batch of eight leaves the way after a step.
        // Norms of four embeddings would enlarge what rounding does.
        let usual = ["--device", "cpu", "train.lr=0.001", "moco.head_norm=false"];
        expect(0, &train(&data, &out, &[&usual, more].concat()));
        out
    };
    let wide = run("wide", &["--max-steps", "4", "--precision", "fp32"]);
    let whole = run("whole", &["--max-steps", "4", "--precision", "bf16", "--threads", "1"]);
    let [wide, narrow] = [&wide, &whole].map(|run| numbers(run, "loss"));
    assert_eq!((wide.len(), narrow.len()), (4, 4));
    for (wide, narrow) in wide.into_iter().zip(narrow) {
        assert!(wide != narrow && (narrow / wide - 1.0).abs() < 0.02, "{wide} {narrow}");
    }
    run("parts", &["--max-steps", "2", "--precision", "bf16", "--threads", "3"]);
    let more = ["--max-steps", "4", "--precision", "bf16", "--resume", "must"];
    assert_same_weights(&whole, &run("parts", &more));
}

#[test]
fn a_time_limit_stops_with_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    let out = dir.path().join("run");
    let mut args = train(&data, &out, &["--time-limit", "1s"]);
    args.push("train.epochs=100000");
    expect(75, &args);
    let done = steps_in_metrics(&out).len();
    assert!(out.join(format!("checkpoints/step-{done:08}/DONE")).exists(), "{done}");
}

#[test]
fn a_full_disk_leaves_the_last_checkpoint_usable() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    let out = dir.path().join("run");
    expect(0, &train(&data, &out, &["--max-steps", "3"]));
    let args = train(&data, &out, &["--resume", "must"]);
    // A limit on file sizes fails writes as a full disk does.
    let script = "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\"";
    let limited = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_engine")])
        .args(&args)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&limited.stderr);
    assert_eq!(limited.status.code(), Some(5), "{stderr}");
    assert!(
        stderr.contains("last good checkpoint") && stderr.contains("step-00000003"),
        "{stderr}"
    );
    expect(0, &train(&data, &out, &["--resume", "must"]));
    assert_eq!(steps_in_metrics(&out), (0..12).collect::<Vec<_>>());
}

#[test]
fn divergence_names_step_architecture_and_tensor() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    let out = dir.path().join("run");
    // Until a value overflows, weights that blow up may have any norm.
    let wild = ["train.lr=1000", "train.weight_decay=1", "guard.collapse=false"];
    let (_, stderr) = expect(4, &train(&data, &out, &wild));
    assert!(stderr.contains("step ") && stderr.contains("architecture s"), "{stderr}");
    assert!(["layer", "head", "conv"].iter().any(|part| stderr.contains(part)), "{stderr}");
    let status = fs::read_to_string(out.join("status.json")).unwrap();
    assert!(status.contains("\"diverged\""), "{status}");
}

#[test]
fn a_dry_run_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    let out = dir.path().join("run");
    let (stdout, _) = expect(0, &train(&data, &out, &["--dry-run"]));
    assert!(stdout.contains("memory") && stdout.to_lowercase().contains("eta"), "{stdout}");
    assert!(stdout.contains("8 images in 2 parts of 4") && stdout.contains("12 steps"), "{stdout}");
    assert!(!out.exists());
    // Parts of a batch are timed, and scaled.
    let (stdout, stderr) = expect(0, &train(&data, &out, &["--dry-run", "--json"]));
    let plan: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((plan["batch"].as_u64(), plan["timed_images"].as_u64()), (Some(8), Some(4)));
    assert!(plan["step_ms"].as_f64() > Some(0.0) && plan["eta_s"].as_f64() > Some(0.0), "{plan}");
    assert!(stderr.contains("a step of 2 images took"), "{stderr}");
}

#[test]
fn a_gpu_that_is_not_here_can_be_planned_for() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    let out = dir.path().join("run");
    let plan = |memory: &'static str| train(&data, &out, &["--dry-run", "--device-memory", memory]);
    let (stdout, stderr) = expect(0, &[&plan("80GiB")[..], &["--json"]].concat());
    let found: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(found["available_bytes"].as_u64(), Some(80 << 30));
    assert!(found["planned_bytes"].as_u64() > Some(1 << 20), "{found}");
    assert!(found["step_ms"].is_null() && found["eta_s"].is_null(), "{found}");
    // Two operations a multiply-accumulate, at 989.5 TFLOP/s.
    let least_ms = 2.0 * found["macs_per_step"].as_f64().unwrap() / 989.5e9;
    assert!((found["least_step_ms"].as_f64().unwrap() / least_ms - 1.0).abs() < 1e-9, "{found}");
    let steps = found["steps"].as_f64().unwrap();
    assert!((found["least_s"].as_f64().unwrap() / (steps * least_ms / 1e3) - 1.0).abs() < 1e-9);
    assert!(stderr.contains("not here, in bf16"), "{stderr}");
    let (stdout, _) = expect(0, &plan("80GiB"));
    assert!(
        stdout.contains("at the peak of an NVIDIA H200") && stdout.contains("MACs a step"),
        "{stdout}"
    );
    let (_, stderr) = expect(5, &plan("1MiB"));
    assert!(stderr.contains("1 MiB are available on a GPU that is not here"), "{stderr}");
    expect(2, &[&plan("80GiB")[..], &["--device", "cpu"]].concat());
    expect(2, &plan("much"));
    expect(2, &plan("0"));
    expect(2, &train(&data, &out, &["--device-memory", "80GiB"]));
    assert!(!out.exists());
}

#[test]
fn other_programs_can_watch_a_run_and_are_never_in_its_way() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    let (run, gauges) = (dir.path().join("run"), dir.path().join("run.prom"));
    let prometheus = format!("log.prometheus={}", s(&gauges));
    let files = || {
        let names = fs::read_dir(run.join("tb")).unwrap().map(|e| e.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    };
    expect(0, &train(&data, &run, &["--max-steps", "7", &prometheus]));
    let first = files();
    assert!(first.len() == 1 && first[0].starts_with("events.out.tfevents."), "{first:?}");
    expect(0, &train(&data, &run, &["--resume", &prometheus]));
    assert!(files().len() == 2 && files()[0] == first[0], "{:?}", files());
    let text = fs::read_to_string(&gauges).unwrap();
    assert!(text.contains(&format!("engine_step{{run=\"{}\"}} 12\n", s(&run))), "{text}");

    // A folder that cannot be made, a file that cannot be written: said once each.
    expect(0, &train(&data, &run, &["--overwrite", "log.tensorboard=false"]));
    assert!(!run.join("tb").exists());
    fs::write(run.join("tb"), "mine").unwrap();
    let nowhere = "log.prometheus=nowhere/run.prom";
    let (_, said) = expect(0, &train(&data, &run, &["--overwrite", nowhere]));
    for what in ["TensorBoard's file", "Prometheus's file"] {
        let found = said.matches(&format!("{what} is not written any more")).count();
        assert_eq!(found, 1, "{said}");
    }
    assert_eq!(fs::read_to_string(run.join("tb")).unwrap(), "mine");
    assert_eq!(steps_in_metrics(&run).len(), 12);
}

#[test]
fn the_log_has_times_and_a_loss_per_student() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    let out = dir.path().join("run");
    let (stdout, stderr) = expect(0, &train(&data, &out, &[]));
    let log = fs::read_to_string(out.join("train.log")).unwrap();
    for line in log.lines() {
        let (time, _) = line.split_once(' ').unwrap();
        let fits = |(pattern, c): (char, char)| match pattern {
            '0' => c.is_ascii_digit(),
            _ => c == pattern,
        };
        let pattern = "0000-00-00T00:00:00Z";
        assert!(
            time.len() == pattern.len() && pattern.chars().zip(time.chars()).all(fits),
            "{line}"
        );
    }
    // The sum over three students is in the metrics; people read the mean.
    let mean = numbers(&out, "loss").last().unwrap() / 3.0;
    assert!(stdout.contains(&format!("loss {mean:.4}")), "{stdout}");
    let last = stderr.lines().rfind(|line| line.starts_with("step 12/12")).unwrap();
    let equal = 25f64.ln();
    let expected = format!("loss {mean:.4} (equal embeddings {equal:.2})");
    assert!(last.contains(&expected) && log.contains(&expected), "{last}");
    assert!(last.contains("images/s") || last.contains("s/image"), "{last}");
}

#[test]
fn what_is_in_the_way_or_does_not_fit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    let out = dir.path().join("run");
    expect(0, &train(&data, &out, &["--max-steps", "1"]));
    let (_, stderr) = expect(2, &train(&data, &out, &[]));
    assert!(stderr.contains("--resume") && stderr.contains("--overwrite"), "{stderr}");
    expect(0, &train(&data, &out, &["--max-steps", "1", "--overwrite"]));

    let mut other = train(&data, &out, &["--resume", "auto"]);
    other.push("train.lr=0.5");
    let (_, stderr) = expect(6, &other);
    assert!(stderr.contains("train.lr"), "{stderr}");
    let preset = other.iter().position(|a| *a == "tiny").unwrap();
    other[preset] = "cifar";
    expect(6, &other);

    let fresh = dir.path().join("fresh");
    expect(6, &train(&data, &fresh, &["--resume", "must"]));
    let (_, stderr) = expect(2, &train(&data, &fresh, &["train.lrr=0.5"]));
    assert!(stderr.contains("train.lr"), "{stderr}");
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    expect(3, &train(&empty, &fresh, &[]));
}

#[test]
fn a_run_leaves_what_the_docs_promise() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    let (out, dumps) = (dir.path().join("run"), dir.path().join("dumps"));
    expect(
        0,
        &train(&data, &out, &["--max-steps", "2", "--dump-steps", "0,1", "--dump-dir", s(&dumps)]),
    );
    for file in ["config.toml", "cmd.txt", "env.json", "train.log", "status.json", "metrics.jsonl"]
    {
        assert!(out.join(file).exists(), "{file}");
    }
    let (dump, meta) =
        engine::files::read_safetensors(&dumps.join("step-00000001.safetensors")).unwrap();
    for name in [
        "x_student",
        "x_teacher",
        "z_teacher",
        "queue",
        "z_student.2",
        "loss.2",
        "before.conv1.weight",
        "grad.layer1.0.conv1.weight",
        "after.head.3.weight",
        "momentum.bn1.weight",
        "teacher_before.conv1.weight",
        "teacher_after.conv1.weight",
    ] {
        assert!(dump.contains_key(name), "{name}");
    }
    assert_eq!(dump["x_student"].0, [8, 3, 32, 32]);
    for key in ["archs", "bn_group", "lr", "momentum", "weight_decay", "ema", "tau"] {
        assert!(meta.contains_key(key), "{key}");
    }
    // The moving average comes before the teacher's pass, from the students before the step.
    let (m, name) = (meta["ema"].parse::<f32>().unwrap(), "layer4.0.conv2.weight");
    let of = |prefix: &str| &dump[&format!("{prefix}.{name}")].1;
    for ((after, before), student) in
        of("teacher_after").iter().zip(of("teacher_before")).zip(of("before"))
    {
        assert!((after - (m * before + (1.0 - m) * student)).abs() < 1e-6);
    }
}
