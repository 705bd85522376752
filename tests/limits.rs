//! Limits of memory, files and threads, and signals at any time, as a user meets them.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::runs::train;
use common::{engine, expect, images, s};
use engine::files;
use engine::train::checkpoint::{self, Checkpoint};
use serde_json::Value;

/// The smallest net of preset tiny.
const MIN: &str = "s8-w8.16.32.64-d1.1.2.1";

/// Runs the program under limits of the shell's.
fn under(limits: &str, args: &[&str]) -> Output {
    let script = format!("{limits} && exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_engine")]).args(args);
    command.output().unwrap()
}

fn text(out: &Output) -> String {
    String::from_utf8_lossy(&[&out.stdout[..], &out.stderr[..]].concat()).into_owned()
}

/// A short run under each limit ends with 0, or with 5 and a line that says why.
fn limited(limits: impl Iterator<Item = String>) -> Vec<(String, i32)> {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 2, 12);
    let out = dir.path().join("out");
    let args =
        ["train", "--preset", "tiny", "--data", s(&data), "--out", s(&out), "--threads", "2"];
    let settings = ["train.batch=8", "moco.queue=64", "train.epochs=1", "-q"];
    let run = |limit: String| {
        let _ = fs::remove_dir_all(&out); // The first run finds none.
        let found = under(&limit, &[&args[..], &settings].concat());
        let said = text(&found);
        let code = found.status.code().unwrap_or(-1);
        assert!(code == 0 || code == 5, "{limit}: {:?}\n{said}", found.status);
        let explained = said.contains("memory") || said.contains("threads");
        assert!(code == 0 || explained, "{limit}: {said}");
        assert!(!said.contains("a fault in engine"), "{limit}: {said}");
        (limit, code)
    };
    limits.map(run).collect()
}

#[test]
fn memory_limits_end_a_run_in_words() {
    let addresses = [72, 80, 90, 120, 200, 4000].map(|mib| format!("ulimit -v {}", mib << 10));
    let data = [16, 40, 60, 300].map(|mib| format!("ulimit -d {}", mib << 10));
    let found = limited(addresses.into_iter().chain(data));
    for (limit, code) in [(&found[0], 5), (&found[5], 0), (&found[6], 5), (&found[9], 0)]
        .map(|((limit, found), expected)| (limit, (*found, expected)))
    {
        assert_eq!(code.0, code.1, "{limit}");
    }
}

/// `cargo test --release --test limits -- --ignored --nocapture`
#[test]
#[ignore = "takes minutes"]
fn every_memory_limit_ends_a_run_in_words() {
    let steps = |from: usize, to: usize| (0..45).map(move |i| (from + i * (to - from) / 44) << 10);
    let all = |flag: &'static str, from, to| {
        steps(from, to).map(move |kib| format!("ulimit {flag} {kib}")).collect::<Vec<_>>()
    };
    for limits in [all("-v", 200, 4000), all("-v", 20, 200), all("-d", 2, 90)] {
        let found = limited(limits.into_iter());
        let count = |code| found.iter().filter(|(_, found)| *found == code).count();
        let (first, last) = (&found[0].0, &found[44].0);
        println!("{first} to {last}: {} ended with 0, {} with 5", count(0), count(5));
    }
}

#[test]
fn the_batch_that_is_named_fits_and_the_next_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 1, 12);
    let run = |batch: &str| {
        let batch = format!("train.batch={batch}");
        let args = ["train", "--preset", "tiny", "--data", s(&data), "--dry-run", "--threads", "1"];
        under("ulimit -v 500000", &[&args[..], &["train.accum=4", &batch]].concat())
    };
    let refused = run("4096");
    let said = text(&refused);
    assert_eq!(refused.status.code(), Some(5), "{said}");
    assert!(said.contains("bounded by ulimit -v"), "{said}");
    let (_, named) = said.split_once("the largest that fits is train.batch=").unwrap();
    let named: usize = named.split(';').next().unwrap().parse().unwrap();
    assert!(named >= 64 && named.is_multiple_of(4), "{said}");
    // What else takes addresses differs a little from run to run.
    let fits = run(&(named / 8 * 7 / 4 * 4).to_string());
    assert_eq!(fits.status.code(), Some(0), "{}", text(&fits));
    assert_eq!(run(&(named / 2 * 3 / 4 * 4).to_string()).status.code(), Some(5));
}

#[test]
#[cfg_attr(not(feature = "emulator"), ignore = "needs the cargo feature emulator")]
fn planning_takes_seconds_whatever_the_sizes() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 1, 4);
    let began = Instant::now();
    for device in ["cpu", "emulator"] {
        let args =
            ["train", "--preset", "data", "--data", s(&data), "--dry-run", "--device", device];
        let huge = ["train.batch=65536", "moco.dim=65536", "moco.queue=1048576"];
        let (_, said) = expect(5, &[&args[..], &huge].concat());
        assert!(said.contains("moco.queue (1048576)"), "{said}");
    }
    // A second would do; machines that are busy get more.
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[test]
fn doctor_says_what_bounds_memory() {
    let said = text(&under("ulimit -v 400000", &["doctor"]));
    assert!(said.contains("free for this process, bounded by ulimit -v"), "{said}");
    let found = under("ulimit -d 200000", &["doctor", "--json"]);
    let found: Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!(found["memory"]["limited_by"], "ulimit -d");
    assert!(found["memory"]["available_bytes"].as_u64().unwrap() < 200_000 << 10);
}

#[test]
fn a_limit_of_file_sizes_is_an_error_of_the_write() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 2, 12);
    let out = dir.path().join("out");
    let found = under("ulimit -f 200", &train(&data, &out, &["-q"]));
    let said = text(&found);
    assert_eq!(found.status.code(), Some(5), "{said}");
    assert!(said.contains("File too large") && said.contains("ulimit -f"), "{said}");
}

#[test]
fn only_the_flag_decides_on_threads() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 2, 12);
    let run = |name: &str, threads: &[&str]| {
        let out = dir.path().join(name);
        let more = [threads, &["--max-steps", "1"]].concat();
        let args = train(&data, &out, &more);
        let found = engine(&args).env("RAYON_NUM_THREADS", "1").output().unwrap();
        let said = text(&found);
        assert_eq!(found.status.code(), Some(0), "{said}");
        let env: Value = files::read_json(&out.join("env.json")).unwrap();
        (env["compute_threads"].as_u64().unwrap(), env["cores"].as_u64().unwrap(), said)
    };
    let (threads, cores, _) = run("default", &[]);
    assert_eq!(threads, cores);
    assert_eq!(run("two", &["--threads", "2"]).0, 2);
    let (threads, _, said) = run("many", &["--threads", "1024"]);
    assert_eq!(threads, 1024.min(4 * cores));
    assert!(cores > 255 || said.contains("warning: --threads 1024: more than 4 a core"), "{said}");
}

/// Waits until the process has a handler for TERM, and no longer.
fn wait_until_it_listens(child: &mut Child) {
    let status = format!("/proc/{}/status", child.id());
    let listens = || {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let caught = text.lines().find_map(|l| l.strip_prefix("SigCgt:"));
        let mask = caught.and_then(|m| u64::from_str_radix(m.trim(), 16).ok()).unwrap_or(0);
        // The handlers of TERM (15), USR1 (10) and INT (2) are installed one after the other.
        [15, 10, 2].iter().all(|signal| mask >> (signal - 1) & 1 == 1)
    };
    while !listens() && child.try_wait().unwrap().is_none() {
        std::hint::spin_loop();
    }
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
}

fn start(args: &[&str]) -> Child {
    engine(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_signal_before_the_first_step_leaves_what_resume_goes_on_from() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 2, 40);
    for (name, code, wait_ms) in
        [("-TERM", 75, 0), ("-INT", 130, 0), ("-USR1", 75, 3), ("-TERM", 75, 30), ("-TERM", 75, 90)]
    {
        let out = dir.path().join(format!("run{name}{wait_ms}"));
        let args = train(&data, &out, &["--resume", "auto", "--threads", "1", "train.epochs=9"]);
        let mut child = start(&args);
        wait_until_it_listens(&mut child);
        std::thread::sleep(Duration::from_millis(wait_ms));
        signal(&child, name);
        let found = child.wait_with_output().unwrap();
        let said = text(&found);
        assert_eq!(found.status.code(), Some(code), "{name} after {wait_ms} ms: {said}");
        assert!(said.contains("stopped ") && !said.contains("error:"), "{said}");
        expect(0, &[&args[..], &["--max-steps", "1"]].concat());
    }
}

#[test]
fn a_signal_ends_a_long_filling_of_the_queue() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 2, 12);
    let out = dir.path().join("run");
    // Minutes of filling.
    let mut args = vec!["train", "--preset", "tiny", "--data", s(&data), "--out", s(&out)];
    args.extend([
        "--resume",
        "train.batch=8",
        "moco.queue=1048576",
        "moco.dim=8",
        "train.epochs=1",
    ]);
    let mut child = start(&args);
    wait_until_it_listens(&mut child);
    std::thread::sleep(Duration::from_millis(700));
    let began = Instant::now();
    signal(&child, "-TERM");
    let found = child.wait_with_output().unwrap();
    assert_eq!(found.status.code(), Some(75), "{}", text(&found));
    assert!(text(&found).contains("starts again"), "{}", text(&found));
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn verbs_that_keep_nothing_end_as_signals_say() {
    use std::os::unix::process::ExitStatusExt;
    let dir = tempfile::tempdir().unwrap();
    // The word "train" is a path here.
    let data = images(dir.path(), 8, 400);
    let link = dir.path().join("train");
    std::os::unix::fs::symlink(&data, &link).unwrap();
    let args = ["data", "pack", "train", "--out", "packed", "--threads", "1"];
    let mut command = engine(&args);
    command.current_dir(dir.path()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    wait_until_it_listens(&mut child);
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().signal(), Some(15));
}

#[test]
fn a_search_that_is_stopped_early_can_be_done_again() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 2, 12);
    let run = dir.path().join("run");
    expect(0, &train(&data, &run, &["--max-steps", "1"]));
    let args = ["search", "--ckpt", s(&run), "--data", s(&data), "--task", "cls", "--samples", "4"];
    let out = dir.path().join("found");
    let args = [&args[..], &["--budget", "1M..9M", "--out", s(&out), "--force"]].concat();
    let mut child = start(&args);
    wait_until_it_listens(&mut child);
    signal(&child, "-TERM");
    let found = child.wait_with_output().unwrap();
    assert_eq!(found.status.code(), Some(75), "{}", text(&found));
    let again = if out.join("settings.json").exists() { &["--resume"][..] } else { &[] };
    expect(0, &[&args[..], again].concat());
}

#[test]
fn weights_that_blow_up_end_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 2, 12);
    let out = dir.path().join("out");
    let wild = ["train.lr=1000", "train.warmup_epochs=0", "train.epochs=8", "-q"];
    let mut args = train(&data, &out, &[]);
    args.extend(wild);
    let (_, said) = expect(4, &args);
    assert!(said.contains("diverged") && said.contains("train.lr"), "{said}");
    let status: Value = files::read_json(&out.join("status.json")).unwrap();
    assert_eq!(status["state"], "diverged");
    // What is kept is from before that.
    Checkpoint::open(&out).unwrap();
}

/// A run whose newest checkpoint holds a NaN.
fn poisoned(dir: &Path, data: &Path) -> PathBuf {
    let run = dir.join("run");
    expect(0, &train(data, &run, &["--max-steps", "2"]));
    let from = Checkpoint::open(&run).unwrap();
    let stems = ["student", "teacher", "optimizer", "queue"];
    let mut contents = checkpoint::Contents::new();
    for stem in stems {
        let path = from.dir.join(format!("{stem}.safetensors"));
        let (named, _) = files::read_safetensors(&path).unwrap();
        let entry = |(name, (shape, values))| (name, shape, values);
        contents.push((stem, named.into_iter().map(entry).collect()));
    }
    let name = "layer2.0.conv1.weight";
    let weight = contents[0].1.iter_mut().find(|(found, ..)| found == name).unwrap();
    weight.2[0] = f32::NAN;
    let run = dir.join("poisoned");
    checkpoint::write(&run.join("checkpoints"), from.state.clone(), &contents, 2).unwrap();
    run
}

#[test]
fn weights_that_are_no_numbers_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 2, 12);
    let run = poisoned(dir.path(), &data);
    let net = ["--ckpt", s(&run), "--arch", MIN];
    let file = dir.path().join("features.safetensors");
    let embed = ["embed", "--data", s(&data), "--features", "c2,c3", "--out", s(&file)];
    let (_, said) = expect(4, &[&embed[..], &net].concat());
    assert!(said.contains("found NaN in feature c3 of image"), "{said}");
    assert!(said.contains(MIN) && said.contains(".png"), "{said}");
    assert!(
        fs::read_dir(dir.path())
            .unwrap()
            .all(|f| { !f.unwrap().file_name().to_string_lossy().contains("features") })
    );

    let out = dir.path().join("export");
    let export = ["export", "--bn-data", s(&data), "--out", s(&out)];
    let (_, said) = expect(4, &[&export[..], &net].concat());
    assert!(said.contains("layer2.0.conv1.weight") && said.contains("step 2"), "{said}");
    assert!(!out.exists());

    let (_, said) = expect(3, &train(&data, &out, &["--init", s(&run)]));
    assert!(said.contains("layer2.0.conv1.weight") && said.contains("--init"), "{said}");
    assert!(!out.join("checkpoints").exists());
}

#[test]
fn images_that_are_all_the_same_are_said_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 2, 12);
    let run = dir.path().join("run");
    expect(0, &train(&data, &run, &["--max-steps", "1"]));
    let same = dir.path().join("same");
    fs::create_dir(&same).unwrap();
    for i in 0..40 {
        fs::copy(data.join("class0/0000.png"), same.join(format!("{i}.png"))).unwrap();
    }
    let args = ["search", "--ckpt", s(&run), "--data", s(&same), "--task", "det-fpn", "--force"];
    let args = [&args[..], &["--budget", "1M..9M", "--samples", "4"]].concat();
    let (found, said) = expect(0, &[&args[..], &["--json"]].concat());
    let found: Value = serde_json::from_str(&found).unwrap();
    let winners = found["budgets"][0]["winners"].as_array().unwrap();
    assert!(winners.len() > 1 && winners.iter().all(|w| w["p_best"].is_null()), "{found}");
    assert!(said.contains("all 40 images that were compared"), "{said}");
    let (shown, _) = expect(0, &[&args[..], &["--overwrite"]].concat());
    assert!(shown.contains("unknown") && shown.contains("warning: all 40 images"), "{shown}");
}
