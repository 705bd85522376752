//! What belongs to somebody else, or to another process, stays; what was damaged or changed is
//! noticed; what was found is shown before it is written.

mod common;

use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use common::runs::{
    assert_same_weights, kill, numbers, start_and_wait, steps_in_metrics, train as train_args,
};
use common::{engine, expect, images, s};

fn train<'a>(data: &'a Path, out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    train_args(data, out, &[more, &["--threads", "1"]].concat())
}

const MIN: &str = "s8-w8.16.32.64-d1.1.2.1";

fn search<'a>(run: &'a Path, data: &'a Path, out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let base = ["search", "--ckpt", s(run), "--data", s(data), "--task", "cls", "--force"];
    let rest = ["--budget", "3M..5M", "--images", "8", "--bn-images", "8"];
    [&base[..], &rest, &["--out", s(out)], more].concat()
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_second_run_cannot_take_a_running_ones_folder() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    let out = dir.path().join("run");
    // From before its first step on: as soon as the folder is there.
    let mut long = train(&data, &out, &[]);
    long.push("train.epochs=100000");
    let mut first = engine(&long).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    while !out.join(".engine").exists() {
        assert_eq!(first.try_wait().unwrap(), None);
        std::thread::yield_now();
    }
    std::thread::sleep(std::time::Duration::from_millis(20));
    for flags in [&[][..], &["--overwrite"], &["--resume"]] {
        expect(2, &train(&data, &out, flags));
    }
    assert_eq!(first.try_wait().unwrap(), None);
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn overwrite_deletes_what_is_ours_alone() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 2, 12);
    // A folder of some other program, with a file that runs have too.
    let site = dir.path().join("site");
    fs::create_dir_all(site.join("content")).unwrap();
    fs::write(site.join("config.toml"), "title = 'x'").unwrap();
    fs::write(site.join("content/post.md"), "x").unwrap();
    for flags in [&[][..], &["--overwrite"], &["--resume"]] {
        let (_, stderr) = expect(2, &train(&data, &site, flags));
        assert!(stderr.contains("--out"), "{stderr}");
    }
    let (_, stderr) = expect(2, &["quickstart", "--out", s(&site), "--overwrite"]);
    assert!(stderr.contains("deletes nothing"), "{stderr}");
    assert_eq!(fs::read_to_string(site.join("config.toml")).unwrap(), "title = 'x'");
    assert!(site.join("content/post.md").exists() && !site.join(".engine").exists());
    // Something of the user's inside a run stays.
    let out = dir.path().join("run");
    expect(0, &train(&data, &out, &["--max-steps", "2"]));
    fs::write(out.join("notes.txt"), "mine").unwrap();
    fs::write(out.join("checkpoints/notes.txt"), "mine").unwrap();
    expect(0, &train(&data, &out, &["--overwrite", "--max-steps", "1"]));
    assert!(out.join("notes.txt").exists() && out.join("checkpoints/notes.txt").exists());
    assert_eq!(steps_in_metrics(&out), [0]);
    // A quickstart does not replace a run.
    let (_, stderr) = expect(2, &["quickstart", "--out", s(&out), "--overwrite"]);
    assert!(stderr.contains("holds a run"), "{stderr}");
}

#[test]
fn overwrite_deletes_nothing_before_all_is_ready() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 2, 12);
    let (out, absent) = (dir.path().join("run"), dir.path().join("absent"));
    expect(0, &train(&data, &out, &[]));
    expect(3, &train(&absent, &out, &["--overwrite"]));
    assert_eq!(steps_in_metrics(&out).len(), 6);
    let found = dir.path().join("found");
    expect(0, &search(&out, &data, &found, &["--samples", "2"]));
    expect(3, &search(&out, &absent, &found, &["--overwrite"]));
    expect(2, &search(&out, &data, &found, &["--overwrite", "--tau", "-1"]));
    assert!(found.join("winners.json").exists());
    expect(0, &search(&out, &data, &found, &["--overwrite", "--samples", "2"]));
    // A folder that only a killed process has marked is free.
    let stump = dir.path().join("stump");
    fs::create_dir(&stump).unwrap();
    fs::write(stump.join(".engine"), "run\n").unwrap();
    expect(0, &train(&data, &stump, &["--max-steps", "1"]));
}

#[test]
fn exports_leave_their_neighbours_alone() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 2, 12);
    let (run, out) = (dir.path().join("run"), dir.path().join("net"));
    expect(0, &train(&data, &run, &["--max-steps", "2"]));
    for neighbour in ["net.part", "net.old"] {
        fs::create_dir(dir.path().join(neighbour)).unwrap();
        fs::write(dir.path().join(neighbour).join("thesis.txt"), "mine").unwrap();
    }
    let base = ["export", "--ckpt", s(&run), "--arch", MIN, "--bn-data", s(&data)];
    let export =
        |more: &[&'static str]| [&base[..], &["--bn-images", "8", "--out", s(&out)], more].concat();
    // Two at once into one new folder: one makes it, the other says so.
    let spawn = |args: &[&str]| engine(args).stderr(Stdio::null()).spawn().unwrap();
    let mut both = [spawn(&export(&[])), spawn(&export(&[]))];
    let mut codes = both.each_mut().map(|child| child.wait().unwrap().code());
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(2)]);
    expect(0, &export(&["--overwrite"]));
    for neighbour in ["net.part", "net.old"] {
        assert!(dir.path().join(neighbour).join("thesis.txt").exists());
    }
    // What somebody put into the export is not deleted with it.
    fs::write(out.join("thesis.txt"), "mine").unwrap();
    let (_, stderr) = expect(2, &export(&["--overwrite"]));
    assert!(stderr.contains("thesis.txt"), "{stderr}");
    fs::remove_file(out.join("thesis.txt")).unwrap();
    // A description that was edited describes another net.
    let config = out.join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    for (from, to) in
        [("\"resolution\": 32", "\"resolution\": 64"), ("\"stride\": 2", "\"stride\": 1")]
    {
        assert!(text.contains(from), "{text}");
        fs::write(&config, text.replacen(from, to, 1)).unwrap();
        let embed = ["embed", "--model", s(&out), "--data", s(&data), "--features", "z"];
        let file = dir.path().join("z.safetensors");
        let (_, stderr) = expect(3, &[&embed[..], &["--out", s(&file)]].concat());
        assert!(stderr.contains("changed or damaged"), "{stderr}");
        assert!(!file.exists());
    }
}

#[test]
fn a_run_goes_on_from_its_checkpoint_whatever_its_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    let (whole, out) = (dir.path().join("whole"), dir.path().join("run"));
    expect(0, &train(&data, &whole, &[]));
    expect(0, &train(&data, &out, &["--max-steps", "6"]));
    // Without metrics the run still does not begin again.
    fs::rename(out.join("metrics.jsonl"), out.join("mine.jsonl")).unwrap();
    let (_, stderr) = expect(0, &train(&data, &out, &["--resume", "--max-steps", "9"]));
    assert!(stderr.contains("lacks steps 0 to 5"), "{stderr}");
    assert_eq!(steps_in_metrics(&out), [6, 7, 8]);
    // One damaged line takes no other with it.
    fs::rename(out.join("mine.jsonl"), out.join("metrics.jsonl")).unwrap();
    let text = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    fs::write(out.join("metrics.jsonl"), text.replacen("{\"step\":2,", "{\"st\0p\":2,", 1))
        .unwrap();
    let (_, stderr) = expect(0, &train(&data, &out, &["--resume"]));
    assert!(stderr.contains("1 damaged") && stderr.contains("lacks steps 2, 6 to 8"), "{stderr}");
    assert_eq!(steps_in_metrics(&out), [0, 1, 3, 4, 5, 9, 10, 11]);
    assert_same_weights(&whole, &out);
}

#[test]
fn an_edited_state_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 2, 12);
    let out = dir.path().join("run");
    expect(0, &train(&data, &out, &["--max-steps", "3"]));
    let state = out.join("checkpoints/last/state.json");
    let text = fs::read_to_string(&state).unwrap();
    let edits = [("\"step\": 3", "\"step\": 4"), ("\"queue_pointer\": 0", "\"queue_pointer\": 8")];
    for (from, to) in edits {
        assert!(text.contains(from), "{text}");
        fs::write(&state, text.replacen(from, to, 1)).unwrap();
        let (_, stderr) = expect(3, &train(&data, &out, &["--resume"]));
        assert!(stderr.contains("changed or damaged"), "{stderr}");
        expect(3, &["inspect", s(&out)]);
    }
}

#[test]
fn other_images_of_the_same_number_are_another_data_set() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 2, 12);
    let (run, found) = (dir.path().join("run"), dir.path().join("found"));
    expect(0, &train(&data, &run, &["--max-steps", "2"]));
    let second = run.join("checkpoints/step-00000002");
    expect(0, &search(&second, &data, &found, &["--samples", "2"]));
    // A folder that was moved holds the same images.
    let moved = dir.path().join("moved");
    fs::rename(&data, &moved).unwrap();
    expect(0, &train(&moved, &run, &["--resume", "--max-steps", "3"]));
    let one = moved.join("class0/0000.png");
    fs::copy(moved.join("class1/0003.png"), &one).unwrap();
    let (_, stderr) = expect(6, &train(&moved, &run, &["--resume"]));
    assert!(stderr.contains("other images") && stderr.contains("--init"), "{stderr}");
    fs::rename(&moved, &data).unwrap();
    let (_, stderr) = expect(6, &search(&second, &data, &found, &["--samples", "2", "--resume"]));
    assert!(stderr.contains("started with other images"), "{stderr}");
}

#[test]
fn a_damaged_search_finds_the_same_winners() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 2, 12);
    let (run, out) = (dir.path().join("run"), dir.path().join("found"));
    expect(0, &train(&data, &run, &[]));
    expect(0, &search(&run, &data, &out, &["--samples", "4", "--threads", "1"]));
    let names = ["candidates.jsonl", "scores.f64", "winners.json", "search.json", "teacher.json"];
    let good = names.map(|name| fs::read(out.join(name)).unwrap());
    for (name, good) in names.iter().zip(&good).filter(|(name, _)| **name != "winners.json") {
        let mut refused = 0;
        for at in (0..good.len()).step_by(good.len() / 12 + 1) {
            let mut bad = good.clone();
            bad[at] ^= 4;
            fs::write(out.join(name), &bad).unwrap();
            let args = search(&run, &data, &out, &["--samples", "4", "--threads", "1", "--resume"]);
            let result = engine(&args).output().unwrap();
            let stderr = String::from_utf8_lossy(&result.stderr);
            match result.status.code() {
                // Where the name of the digest itself is hit, what it stands for is whole.
                Some(0) => assert!(
                    *name == "teacher.json" || stderr.contains("computed again"),
                    "{name} {at}: {stderr}"
                ),
                // The settings or the verdict on the teacher, of which there is no other copy.
                code => {
                    assert!(matches!(code, Some(3 | 6)), "{name} {at}: {stderr}");
                    refused += 1;
                }
            }
            fs::write(out.join(name), good).unwrap();
        }
        // Of what cannot be computed again most places are hit inside what the digest covers.
        let has_no_copy = ["search.json", "teacher.json"].contains(name);
        assert!(refused > 5 || !has_no_copy, "{name}: {refused} changes were noticed");
    }
    for (name, good) in names.iter().zip(&good) {
        assert!(fs::read(out.join(name)).unwrap() == *good, "{name}");
    }
}

#[test]
fn two_searches_cannot_share_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 2, 12);
    let (run, out) = (dir.path().join("run"), dir.path().join("found"));
    expect(0, &train(&data, &run, &["--max-steps", "1"]));
    expect(6, &search(&run, &data, &out, &["--resume"]));
    let long = search(&run, &data, &out, &["--samples", "all"]);
    let mut first = engine(&long).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    while fs::read_to_string(out.join("candidates.jsonl")).unwrap_or_default().is_empty() {
        assert_eq!(first.try_wait().unwrap(), None);
        std::thread::yield_now();
    }
    for flag in ["--resume", "--overwrite"] {
        let (_, stderr) = expect(2, &search(&run, &data, &out, &["--samples", "all", flag]));
        assert!(stderr.contains("another process"), "{stderr}");
    }
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn exit_4_says_a_way_back_that_works() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    let out = dir.path().join("run");
    // Three healthy steps, then a rate that no run survives.
    expect(0, &train(&data, &out, &["--max-steps", "3"]));
    let third = out.join("checkpoints/step-00000003");
    let wild = ["--resume", s(&third), "train.lr=1000"];
    let (_, stderr) = expect(4, &train(&data, &out, &wild));
    assert!(stderr.contains("train.lr = 1000.0 from step 3 on, 0.0025 before"), "{stderr}");
    let advice = stderr.split("--resume ").last().unwrap();
    let words: Vec<&str> = advice.split_whitespace().take(2).collect();
    assert!(words[0].ends_with("step-00000003"), "{stderr}");
    assert!(words[1].starts_with("train.lr="), "{stderr}");
    expect(0, &train(&data, &out, &["--resume", words[0], words[1]]));
    assert_eq!(steps_in_metrics(&out), (0..12).collect::<Vec<_>>());
    assert!(numbers(&out, "loss").iter().all(|loss| loss.is_finite()));
    // Without naming a checkpoint the rate stays what it was.
    let (_, stderr) = expect(6, &train(&data, &out, &["--resume", "train.lr=0.02"]));
    assert!(stderr.contains("name the checkpoint: --resume"), "{stderr}");
}

#[test]
fn going_on_from_an_older_checkpoint_forgets_later_ones() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    let (whole, out) = (dir.path().join("whole"), dir.path().join("run"));
    expect(0, &train(&data, &whole, &[]));
    expect(0, &train(&data, &out, &[]));
    let older = out.join("checkpoints/step-00000009");
    let args = train(&data, &out, &["--resume", s(&older), "--max-steps", "10"]);
    let (_, stderr) = expect(0, &args);
    assert!(stderr.contains("removed, as the run goes on from before: step-00000012"), "{stderr}");
    expect(0, &train(&data, &out, &["--resume"]));
    assert_eq!(steps_in_metrics(&out), (0..12).collect::<Vec<_>>());
    assert_same_weights(&whole, &out);
}

#[test]
fn an_evaluation_is_shown_before_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 2, 12);
    let nested = dir.path().join("nested/a/b");
    fs::create_dir_all(nested.parent().unwrap()).unwrap();
    fs::rename(&data, &nested).unwrap();
    let source = format!("{}#a/b", dir.path().join("nested").display());
    let run = dir.path().join("run");
    expect(0, &train(&nested, &run, &["--max-steps", "1"]));
    let eval = ["eval", "knn", "--ckpt", s(&run), "--arch", MIN, "--bn-images", "8", "--json"];
    let args = [&eval[..], &["--data", &source, "--test-data", &source]].concat();
    expect(0, &args);
    // Beside the results lies the folder `baselines`.
    let entries = fs::read_dir(run.join("eval")).unwrap().map(|e| e.unwrap().path());
    let names: Vec<_> = entries.filter(|path| path.is_file()).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    assert!(read(&names[0])["accuracy"]["k20"].is_number());
    // A file where the folder should be: the result stands on stdout all the same.
    fs::remove_dir_all(run.join("eval")).unwrap();
    fs::write(run.join("eval"), "in the way").unwrap();
    let (stdout, stderr) = expect(5, &args);
    assert!(serde_json::from_str::<Value>(&stdout).unwrap()["accuracy"]["k20"].is_number());
    assert!(stderr.contains("stands on stdout"), "{stderr}");
}

#[test]
fn a_device_is_no_file_of_weights() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 2, 12);
    let out = dir.path().join("run");
    let (_, stderr) = expect(3, &train(&data, &out, &["--init", "/dev/zero"]));
    assert!(stderr.contains("expected a regular file, found a device"), "{stderr}");
    assert!(!out.exists());
    expect(3, &["inspect", "/dev/zero"]);
}

#[test]
fn links_are_not_followed_when_files_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4, 12);
    let (out, precious) = (dir.path().join("run"), dir.path().join("precious"));
    fs::write(&precious, "mine").unwrap();
    let mut args = train(&data, &out, &[]);
    args.push("train.epochs=100000");
    let mut child = start_and_wait(&args, &out, 2);
    let link = |name: &str| std::os::unix::fs::symlink(&precious, out.join(name)).unwrap();
    // Where the program might write aside, and what it writes.
    for name in ["status.json.part", ".status.json.part", "checkpoints/.last.part", "link"] {
        link(name);
    }
    fs::rename(out.join("link"), out.join("status.json")).unwrap();
    let precious_is_mine = || assert_eq!(fs::read_to_string(&precious).unwrap(), "mine");
    while fs::symlink_metadata(out.join("status.json")).unwrap().is_symlink() {
        precious_is_mine();
        assert_eq!(child.try_wait().unwrap(), None);
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let checkpoints = || fs::read_link(out.join("checkpoints/last")).unwrap();
    let last = checkpoints();
    while checkpoints() == last {
        assert_eq!(child.try_wait().unwrap(), None);
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    kill(child);
    precious_is_mine();
}
