//! Evaluation and embeddings, and the verbs search, eval and embed as a user runs them, on a
//! random tiny net and images made here.

mod tiny_run;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use engine::Kind;
use engine::cx::Cx;
use engine::data::{Dataset, Input};
use engine::eval::embed::{self, embed};
use engine::eval::evaluate::{self, evaluate};
use engine::eval::{Images, Protocol, Splits};
use engine::files::{Named, read_weights};
use engine::nn::{Feature, Subnet};
use engine::space::Space;
use engine::train::Checkpoint;
use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::Value;
use tiny_run::{collapse, write_changed, write_checkpoint, write_images, write_step};

const MIN: &str = "s8-w16.16.32.64-d1.1.2.1";

/// A run's folder, and images beside it.
struct Run {
    dir: tempfile::TempDir,
}

impl Run {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_images(&dir.path().join("images"));
        write_checkpoint(&Cx::for_tests(), &dir.path().join("run"), 2);
        fs::write(dir.path().join("run/config.toml"), "").unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn engine(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
        command.current_dir(self.dir.path()).args(args).output().unwrap()
    }

    /// Runs a verb that must succeed, and parses what it prints.
    fn json(&self, args: &[&str]) -> Value {
        let out = self.engine(&[args, &["--json"]].concat());
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).unwrap()
    }

    fn code(&self, args: &[&str]) -> i32 {
        let out = self.engine(args);
        assert!(out.stdout.is_empty());
        assert!(!out.stderr.is_empty());
        out.status.code().unwrap()
    }
}

fn images(path: &str, count: usize) -> Images {
    let dataset = Arc::new(Dataset::open(&[path.to_owned()]).unwrap());
    Images::new(dataset, (0..count).collect(), Input::rgb(32), 1)
}

#[test]
fn embeddings_hold_what_the_net_saw_and_said() {
    let run = Run::new();
    let cx = Cx::for_tests();
    let checkpoint = Checkpoint::open(Path::new(&run.path("run"))).unwrap();
    let net = checkpoint.supernet().unwrap();
    let params = checkpoint.student(&cx, net.specs()).unwrap();
    let arch = MIN.parse().unwrap();
    let shown = images(&run.path("images"), 40);
    let subnet =
        Subnet::recalibrated(&cx, &net, &params, arch, shown.tensors(&cx, 40).unwrap()).unwrap();
    let file = Path::new(&run.path("f.safetensors")).to_owned();
    let outputs = ["x", "c5", "z", "pool"].map(|s| s.parse::<embed::Output>().unwrap());
    let embedded = images(&run.path("images"), 40);
    let found =
        embed(&cx, &subnet, embedded, &outputs, &[("arch", MIN.into())], &file, None).unwrap();
    assert_eq!((found.unreadable.len(), found.tensors.len()), (0, 5));

    let File { tensors, labels, metadata } = File::read(&file);
    assert_eq!(metadata["arch"], MIN);
    assert_eq!(metadata["unreadable"], "[]");
    assert_eq!(metadata["classes"], r#"["dots","stripes"]"#);
    assert_eq!(labels.unwrap(), [vec![0; 20], vec![1; 20]].concat());
    let files: Vec<String> = serde_json::from_str(&metadata["files"]).unwrap();
    assert_eq!((files.len(), files[0].as_str()), (40, "dots/00.png"));
    assert_eq!(tensors["x"].0, [40, 3, 32, 32]);
    assert_eq!(tensors["z"].0, [40, 16]);
    assert_eq!(tensors["pool"].0, [40, 256]);
    let x = shown.tensors(&cx, 40).unwrap().next().unwrap().unwrap();
    let (h, w, c) = (5, 7, 2);
    let ours = x.host::<f32>()[(((3 * 32) + h) * 32 + w) * 3 + c];
    assert_eq!(tensors["x"].1[((3 * 3 + c) * 32 + h) * 32 + w], ours);
    let c5 = subnet.features(&cx, x, &[Feature::C5]).unwrap().take(Feature::C5).into_value();
    let [n, h, w, c] = c5.shape().0;
    assert_eq!(tensors["c5"].0, [n, c, h, w]);
    // Pooled features are the mean of C5's positions, of the same image and channel.
    let map = &tensors["c5"].1[(9 * c + 11) * h * w..][..h * w];
    let mean = map.iter().sum::<f32>() / (h * w) as f32;
    assert!((tensors["pool"].1[9 * c + 11] - mean).abs() < 1e-5);
    let length: f32 = tensors["z"].1[..16].iter().map(|z| z * z).sum();
    assert!((length - 1.0).abs() < 1e-5);
}

#[test]
fn an_image_that_cannot_be_read_has_no_row() {
    let run = Run::new();
    let (ckpt, data) = (run.path("run"), run.path("images"));
    let (whole, rest) = (run.path("whole.safetensors"), run.path("rest.safetensors"));
    // An export's statistics do not depend on the images that are embedded.
    let export = run.path("exported");
    run.json(&["export", "--ckpt", &ckpt, "--arch", MIN, "--bn-data", &data, "--out", &export]);
    let embed = |out: &str| {
        let args = ["embed", "--model", &export, "--data", &data, "--features", "x,z,c5"];
        run.json(&[&args[..], &["--out", out]].concat())
    };
    embed(&whole);
    for name in ["dots/04.png", "stripes/19.png"] {
        fs::write(run.path(&format!("images/{name}")), b"\x89PNG\r\n\x1a\n and no more").unwrap();
    }
    let said = embed(&rest);
    assert_eq!(said["tensors"]["z"], serde_json::json!([38, 16]));
    assert_eq!(said["tensors"]["labels"], serde_json::json!([38]));
    assert_eq!(said["unreadable"], serde_json::json!(["dots/04.png", "stripes/19.png"]));
    let [whole, rest] = [whole, rest].map(|path| File::read(Path::new(&path)));
    let keep: Vec<usize> = (0..40).filter(|&i| i != 4 && i != 39).collect();
    let files =
        |file: &File| -> Vec<String> { serde_json::from_str(&file.metadata["files"]).unwrap() };
    let (all, kept) = (files(&whole), files(&rest));
    assert_eq!(kept, keep.iter().map(|&i| all[i].clone()).collect::<Vec<_>>());
    assert_eq!(rest.metadata["unreadable"], r#"["dots/04.png","stripes/19.png"]"#);
    let labels = whole.labels.unwrap();
    assert_eq!(rest.labels.unwrap(), keep.iter().map(|&i| labels[i]).collect::<Vec<_>>());
    for name in ["x", "z", "c5"] {
        let (shape, values) = &whole.tensors[name];
        let row = |i: usize| values[i * values.len() / 40..(i + 1) * values.len() / 40].to_vec();
        let expected: Vec<f32> = keep.iter().flat_map(|&i| row(i)).collect();
        assert_eq!(rest.tensors[name].1, expected, "{name}");
        assert_eq!(rest.tensors[name].0[1..], shape[1..]);
    }
    // A source without classes has no labels.
    let flat = run.path("flat.safetensors");
    let dots = run.path("images/dots");
    run.json(&["embed", "--model", &export, "--data", &dots, "--images", "3", "--out", &flat]);
    let flat = File::read(Path::new(&flat));
    assert!(flat.labels.is_none() && !flat.metadata.contains_key("classes"));
}

/// A file of embeddings.
struct File {
    tensors: Named,
    labels: Option<Vec<i64>>,
    metadata: HashMap<String, String>,
}

impl File {
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let labels = file.tensor("labels").ok().map(|labels| {
            assert_eq!((labels.dtype(), labels.shape().len()), (Dtype::I64, 1));
            let numbers = labels.data().as_chunks::<8>().0.iter();
            numbers.map(|b| i64::from_le_bytes(*b)).collect()
        });
        let (tensors, others) = read_weights(path).unwrap();
        assert_eq!(others.len(), usize::from(labels.is_some()));
        Self { tensors, labels, metadata: header.metadata().clone().unwrap() }
    }
}

#[test]
fn two_kinds_of_images_are_told_apart() {
    let run = Run::new();
    let cx = Cx::for_tests();
    let checkpoint = Checkpoint::open(Path::new(&run.path("run"))).unwrap();
    let net = checkpoint.supernet().unwrap();
    let params = checkpoint.student(&cx, net.specs()).unwrap();
    let open = || Dataset::open(&[run.path("images")]).unwrap();
    let sets = Splits::new(open(), open(), None, 32, 1, &Input::rgb(32), 1).unwrap();
    assert_eq!(sets.chance(), 0.5);
    let bn = sets.bn.tensors(&cx, 32).unwrap();
    let subnet = Subnet::recalibrated(&cx, &net, &params, MIN.parse().unwrap(), bn).unwrap();
    for protocol in [Protocol::Knn, Protocol::Linear] {
        let options = evaluate::Options { protocol, feature: Feature::Pool, epochs: 20, seed: 1 };
        // Even random features tell stripes from dots when tested on what they learnt from.
        let verdict = evaluate(&cx, &subnet, &sets, &options).unwrap();
        assert!(verdict.accuracy() > 0.7, "{verdict:?}");
    }
    fs::rename(run.path("images/dots"), run.path("images/spots")).unwrap();
    let other = Dataset::open(&[run.path("images")]).unwrap();
    fs::rename(run.path("images/spots"), run.path("images/dots")).unwrap();
    let err = Splits::new(open(), other, None, 32, 1, &Input::rgb(32), 1).err().unwrap();
    assert_eq!(err.kind(), Kind::Data);
}

#[test]
fn search_evaluate_and_correlate_from_the_command_line() {
    let run = Run::new();
    let (ckpt, data) = (run.path("run"), run.path("images"));
    let search = [
        "search",
        "--ckpt",
        &ckpt,
        "--data",
        &data,
        "--task",
        "cls",
        "--samples",
        "2",
        "--groups",
        "0..20M:2M",
        "--images",
        "16",
        "--bn-images",
        "16",
    ];
    let winners = run.json(&search);
    let tag = "cls-images-0-20M-2M";
    assert!(winners["out"].as_str().unwrap().ends_with(tag), "{winners}");
    assert!(!winners["budgets"].as_array().unwrap().is_empty());
    let dir = format!("run/search/{tag}");
    let candidates = fs::read_to_string(run.path(&format!("{dir}/candidates.jsonl"))).unwrap();
    assert!(candidates.lines().count() >= 2);
    assert!(Path::new(&run.path(&format!("{dir}/winners.json"))).exists());
    // It does not go over what is there, but goes on with it.
    assert_eq!(run.code(&search), 2);
    assert_eq!(run.json(&[&search[..], &["--resume"]].concat()), winners);
    assert_eq!(run.code(&[&search[..], &["--resume", "--seed", "9"]].concat()), 6);
    let said =
        String::from_utf8(run.engine(&[&search[..], &["--resume"]].concat()).stdout).unwrap();
    for part in ["first in resamples", "nothing about accuracy", "spread"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }

    let knn = ["eval", "knn", "--ckpt", &ckpt, "--data", &data, "--test-data", &data];
    let result = run.json(&[&knn[..], &["--arch", MIN]].concat());
    assert!(result["accuracy"]["k20"].as_f64().unwrap() >= 0.5);
    let kept =
        fs::read(run.path(&format!("run/eval/knn-images-{MIN}-step-00000007.json"))).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&kept).unwrap(), result);
    let file = run.path(&format!("{dir}/candidates.jsonl"));
    let ranked = run.json(&[&knn[..], &["--archs-from", &file, "--limit", "3"]].concat());
    assert_eq!(ranked["subnets"].as_array().unwrap().len(), 3.min(candidates.lines().count()));
    assert!(ranked["correlation"].get("spearman").is_some());
    assert!(ranked["baselines"]["pixels"]["accuracy"]["k20"].as_f64().unwrap() > 0.0);
    assert!(ranked["baselines"]["untrained"]["absent"].is_string());
    assert!(ranked["subnets"][0]["stderr"].is_f64());
    let agreement = &ranked["agreement"];
    assert_eq!((&agreement["nets"], &agreement["test_images"]), (&3.into(), &40.into()));
    for part in ["score", "macs", "score_given_macs"] {
        assert_eq!(agreement[part]["resolved"], false, "{ranked}");
    }
    // Three of them and one that was evaluated alone.
    run.json(&["report", &ckpt]);
    let held = fs::read(run.path(&format!("{dir}/agreement.json"))).unwrap();
    let held: Value = serde_json::from_slice(&held).unwrap();
    assert_eq!((&held[0]["protocol"], held.as_array().unwrap().len()), (&"knn".into(), 1));
    assert!(held[0]["nets"].as_u64().unwrap() >= 3, "{held}");
}

#[test]
fn baselines_stand_beside_an_accuracy() {
    let run = Run::new();
    let (ckpt, data) = (run.path("run"), run.path("images"));
    let eval = |protocol: &'static str, more: &[&str]| -> Vec<String> {
        let args = ["eval", protocol, "--ckpt", &ckpt, "--data", &data, "--test-data", &data];
        let epochs: &[&str] = if protocol == "linear" { &["--epochs", "3"] } else { &[] };
        let more = ["--arch", MIN].iter().chain(epochs).chain(more);
        args.iter().chain(more).map(|word| (*word).to_owned()).collect()
    };
    let json = |args: &[String]| run.json(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let knn = json(&eval("knn", &[]));
    let absent = knn["baselines"]["untrained"]["absent"].as_str().unwrap();
    assert!(absent.contains("step-00000000"), "{absent}");

    let first = write_step(&Cx::for_tests(), Path::new(&ckpt), 0, [3, 3]);
    for (protocol, key) in [("knn", "k20"), ("linear", "linear")] {
        let found = json(&eval(protocol, &[]));
        let share = |value: &Value| value["accuracy"][key].as_f64().unwrap();
        let stderr = |value: &Value| value["stderr"][key].as_f64().unwrap();
        for value in ["untrained", "pixels", "histogram"].map(|name| &found["baselines"][name]) {
            let p = share(value);
            assert!((0.0..=1.0).contains(&p), "{value}");
            assert!((stderr(value) - (p * (1.0 - p) / 40.0).sqrt()).abs() < 1e-12, "{value}");
        }
        assert!(
            (stderr(&found) - (share(&found) * (1.0 - share(&found)) / 40.0).sqrt()).abs() < 1e-12
        );
        let guessing = serde_json::json!({"largest_class": 0.5, "uniform": 0.5});
        assert_eq!(found["baselines"]["guessing"], guessing);
        assert_eq!(
            (&found["chance"], &found["chance_uniform"]),
            (&serde_json::json!(0.5), &serde_json::json!(0.5))
        );
        assert!(found["remarks"].is_array());
        // The untrained net is what an evaluation of step 0 finds.
        let mut args = eval(protocol, &[]);
        args[3] = first.display().to_string();
        let alone = json(&args);
        assert_eq!(alone["accuracy"], found["baselines"]["untrained"]["accuracy"]);
        let absent = alone["baselines"]["untrained"]["absent"].as_str().unwrap();
        assert!(absent.contains("itself is untrained"), "{absent}");
        let bare = json(&eval(protocol, &["--no-baselines"]));
        assert!(bare.get("baselines").is_none() && bare["accuracy"] == found["accuracy"]);
    }
    let args = eval("knn", &[]);
    let out = run.engine(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let text = String::from_utf8(out.stdout).unwrap();
    for row in ["k = 200", "the same, untrained", "raw pixels", "colour histogram", "guessing"] {
        assert!(text.contains(row), "no {row:?} in\n{text}");
    }
    assert!(text.contains("±"), "{text}");
    let page = run.json(&["report", &ckpt]);
    assert!(page.to_string().contains("report.html"));
    let html = fs::read_to_string(run.path("run/report.html")).unwrap();
    assert!(html.contains("colour histogram") && html.contains("raw pixels"));
}

#[test]
fn baselines_without_a_net_are_computed_once() {
    let run = Run::new();
    let (ckpt, data) = (run.path("run"), run.path("images"));
    let evaluate = |arch: &str, more: &[&str]| -> (Value, String) {
        let args = ["eval", "knn", "--ckpt", &ckpt, "--data", &data, "--test-data", &data];
        let out = run.engine(&[&args[..], &["--arch", arch, "--json"], more].concat());
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let value = serde_json::from_slice(&out.stdout).unwrap();
        (value, String::from_utf8(out.stderr).unwrap())
    };
    let files = || -> Vec<_> {
        let folder = fs::read_dir(run.path("run/eval/baselines")).unwrap();
        folder.map(|entry| entry.unwrap().path()).collect()
    };
    const KEPT: &str = "raw pixels and colour histograms are those of";
    let (first, said) = evaluate(MIN, &[]);
    assert!(files().len() == 1 && !said.contains(KEPT), "{said}");
    let kept = fs::read(&files()[0]).unwrap();
    let other = "s8-w16.16.32.96-d1.1.3.2";
    let (second, said) = evaluate(other, &[]);
    assert!(said.contains(KEPT), "{said}");
    for name in ["pixels", "histogram"] {
        assert_eq!(first["baselines"][name], second["baselines"][name]);
    }
    // Fewer images, and images that changed, are another question.
    let (_, said) = evaluate(MIN, &["--images", "20"]);
    assert!(files().len() == 2 && !said.contains(KEPT), "{said}");
    fs::copy(run.path("images/dots/03.png"), run.path("images/dots/04.png")).unwrap();
    let (_, said) = evaluate(MIN, &[]);
    assert!(files().len() == 3 && !said.contains(KEPT), "{said}");
    // What is damaged is computed again, whatever it is.
    for path in files() {
        for text in [&kept[..kept.len() / 2], b"", b"{}"] {
            fs::write(&path, text).unwrap();
            assert_eq!(evaluate(MIN, &[]).0["baselines"]["pixels"]["train_images"], 40);
        }
    }
    // One file under another's name is not believed either.
    let (_, said) = evaluate(MIN, &[]);
    assert!(said.contains(KEPT), "{said}");
    files().iter().for_each(|path| fs::write(path, &kept).unwrap());
    let (_, said) = evaluate(MIN, &[]);
    assert!(said.contains("is of other images") && !said.contains(KEPT), "{said}");
    // They are the run's own: a report passes them over.
    run.json(&["report", &ckpt]);
}

#[test]
fn a_search_with_a_collapsed_teacher_is_exit_4() {
    let run = Run::new();
    write_changed(&Cx::for_tests(), &run.dir.path().join("run"), 2, 8, collapse);
    let (ckpt, data) = (run.path("run"), run.path("images"));
    let search = ["search", "--ckpt", &ckpt, "--data", &data, "--task", "seg", "--arch", MIN];
    assert_eq!(run.code(&search), 4);
    let forced = [&search[..], &["--force"]].concat();
    let out = run.engine(&forced);
    let said = [&out.stdout, &out.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    assert!(said.iter().all(|text| text.contains("The teacher has collapsed")), "{said:?}");
    let found = run.json(&[&forced[..], &["--resume"]].concat());
    assert_eq!(found["teacher"]["health"], "collapsed");
    run.json(&["report", &ckpt]);
    let page = fs::read_to_string(run.path("run/report.html")).unwrap();
    assert!(page.contains("The teacher has collapsed"));
}

#[test]
fn wrong_commands_end_with_the_right_code() {
    let run = Run::new();
    let (ckpt, data, out) = (run.path("run"), run.path("images"), run.path("f.safetensors"));
    let search = ["search", "--ckpt", &ckpt, "--data", &data, "--task", "cls"];
    let with = |more: &[&str]| run.code(&[&search[..], more].concat());
    assert_eq!(with(&["--arch", "s8-w16.16.32.9999-d1.1.2.1"]), 2);
    assert_eq!(with(&["--budget", "900G..901G"]), 2);
    assert_eq!(with(&["--features", "pool"]), 2);
    assert_eq!(with(&["--features", "c6"]), 2);
    assert_eq!(with(&["--images", "1"]), 3);
    assert_eq!(run.code(&["search", "--ckpt", &ckpt, "--data", "nowhere", "--task", "cls"]), 3);
    assert_eq!(run.code(&["search", "--ckpt", "nowhere", "--data", &data, "--task", "cls"]), 3);

    let flat = run.path("images/dots");
    let knn = ["eval", "knn", "--ckpt", &ckpt, "--arch", MIN];
    assert_eq!(run.code(&[&knn[..], &["--data", &flat, "--test-data", &flat]].concat()), 3);
    let no_arch = ["eval", "knn", "--ckpt", &ckpt, "--data", &data, "--test-data", &data];
    assert_eq!(run.code(&no_arch), 2);

    let embed = ["embed", "--ckpt", &ckpt, "--arch", MIN, "--data", &data, "--out", &out];
    run.json(&embed);
    assert_eq!(run.code(&embed), 2);
    run.json(&[&embed[..], &["--overwrite", "--bn", "batch"]].concat());
    assert_eq!(run.code(&[&embed[..], &["--overwrite", "--features", "z,z"]].concat()), 2);
}

#[test]
fn architectures_have_names() {
    let run = Run::new();
    let min = Space::preset("tiny").unwrap().min().to_string();
    let (ckpt, data, out) = (run.path("run"), run.path("images"), run.path("winner"));
    let knn = ["eval", "knn", "--ckpt", &ckpt, "--data", &data, "--test-data", &data];
    let knn = |arch: &'static str| [&knn[..], &["--no-baselines", "--arch", arch]].concat();
    assert_eq!(run.json(&knn("min"))["arch"], min);
    let refused = run.engine(&knn("winner"));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(2) && said.contains("engine search"), "{said}");
    let refused = run.engine(&knn("r50"));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(2) && said.contains("r50: s64-w64"), "{said}");

    let search = ["search", "--ckpt", &ckpt, "--data", &data, "--images", "8", "--bn-images", "8"];
    let one = [&search[..], &["--task", "cls", "--arch", "min"]].concat();
    assert_eq!(run.json(&one)["budgets"][0]["winners"][0]["arch"], min);
    let export = ["export", "--ckpt", &ckpt, "--arch", "winner", "--bn-data", &data];
    let exported = run.json(&[&export[..], &["--bn-images", "8", "--out", &out]].concat());
    assert_eq!(exported["arch"], min);
    // In an export's own space, it is the largest.
    let embed = ["embed", "--model", &out, "--arch", "max", "--data", &data];
    run.json(&[&embed[..], &["--out", &run.path("z.safetensors")]].concat());
    assert_eq!(run.code(&[&embed[..4], &["winner"], &embed[5..], &["--out", "a"]].concat()), 2);

    // Another search with another winner: which one is meant?
    let two = [&search[..], &["--task", "seg", "--arch", "max"]].concat();
    run.json(&two);
    let several = run.engine(&knn("winner"));
    let said = String::from_utf8(several.stderr).unwrap();
    assert!(said.contains("several winners") && said.contains(&min), "{said}");
    assert_eq!(several.status.code(), Some(2));
}

#[test]
fn a_search_by_latency_shows_latencies() {
    let run = Run::new();
    let (ckpt, data) = (run.path("run"), run.path("images"));
    let search = ["search", "--ckpt", &ckpt, "--data", &data, "--images", "8", "--bn-images", "8"];
    let latency =
        ["--task", "cls", "--metric", "latency", "--budget", "1ns..60s", "--samples", "2"];
    let out = run.engine(&[&search[..], &latency].concat());
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(text.contains("latency") && text.contains(" ms  "), "{text}");
    assert!(text.contains("2 of the 2 that were timed in 1ns..60s"), "{text}");
    let folder = fs::read_dir(run.path("run/search")).unwrap().next().unwrap().unwrap().path();
    let lines = fs::read_to_string(folder.join("candidates.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 2);
    for line in lines.lines() {
        let candidate: Value = serde_json::from_str(line).unwrap();
        assert!(candidate["latency_ms"].as_f64() > Some(0.0), "{line}");
    }
    let page = fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(page.contains("forward pass of one image (ms)") && page.contains("2 of 2 timed"));
}
