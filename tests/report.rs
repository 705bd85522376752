//! `engine report` as a user runs it: what evaluations leave for it, and two runs on one page.

mod common;
mod tiny_run;

use std::fs;
use std::path::Path;

use common::{expect, s};
use engine::cx::Cx;
use serde_json::Value;
use tiny_run::{write_checkpoint, write_images};

const MIN: &str = "s8-w16.16.32.64-d1.1.2.1";

/// A run's folder with a checkpoint.
fn write_run(dir: &Path, seed: u64) {
    write_checkpoint(&Cx::for_tests(), dir, seed);
    fs::write(dir.join("config.toml"), format!("seed = {seed}\n")).unwrap();
}

/// A file of the run's `eval/details` that begins with `what`.
fn details(run: &Path, what: &str) -> (Vec<u8>, Value) {
    let all = fs::read_dir(run.join("eval/details")).unwrap().map(|e| e.unwrap().path());
    let file = all.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(what));
    let bytes = fs::read(file.last().unwrap()).unwrap();
    let value = serde_json::from_slice(&bytes).unwrap();
    (bytes, value)
}

#[test]
fn evaluations_leave_what_they_look_like() {
    let dir = tempfile::tempdir().unwrap();
    let [run, data, out] = ["run", "images", "f.safetensors"].map(|name| dir.path().join(name));
    write_images(&data);
    write_run(&run, 2);
    let net = ["--ckpt", s(&run), "--arch", MIN, "--quiet", "--data", s(&data)];
    let knn = [&["eval", "knn", "--json"], &net[..], &["--test-data", s(&data)]].concat();
    let result: Value = serde_json::from_str(&expect(0, &knn).0).unwrap();
    let (bytes, found) = details(&run, "knn");
    let confusion: Vec<(usize, usize, usize)> =
        serde_json::from_value(found["confusion"].clone()).unwrap();
    let sum = |wanted: &dyn Fn(usize, usize) -> bool| -> usize {
        confusion.iter().filter(|(a, b, _)| wanted(*a, *b)).map(|c| c.2).sum()
    };
    let right = sum(&|class, answer| class == answer) as f64 / 40.0;
    assert_eq!((sum(&|_, _| true), Some(right)), (40, result["accuracy"]["k20"].as_f64()));
    let neighbours = found["neighbours"].as_array().unwrap();
    assert!((3..=6).contains(&neighbours.len()), "{}", neighbours.len());
    for query in neighbours {
        let near = query["near"].as_array().unwrap();
        // The images are their own training images, so each is its own nearest neighbour.
        assert_eq!((near.len(), &near[0][1]["png"]), (5, &query["image"]["png"]));
        assert!(near[0][0].as_f64().unwrap() > 0.999);
    }
    assert_eq!(found["map"]["places"].as_array().unwrap().len(), 40);
    // The same bytes for any number of threads.
    expect(0, &[&knn[..], &["--threads", "2"]].concat());
    assert!(details(&run, "knn").0 == bytes);

    // Without labels: images with others, and the map.
    let embed = [&["embed"], &net[..], &["--out", s(&out)]].concat();
    expect(0, &embed);
    let (_, found) = details(&run, "embed");
    assert_eq!(
        (&found["accuracy"], found["neighbours"].as_array().unwrap().len()),
        (&Value::Null, 6)
    );
    for query in found["neighbours"].as_array().unwrap() {
        let near = query["near"].as_array().unwrap();
        assert!(near.len() == 5 && near.iter().all(|n| n[1]["name"] != query["image"]["name"]));
    }

    expect(0, &["report", s(&run)]);
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    for part in ["Nearest neighbours", "Confusion matrix", "Map of the embeddings", "named right"] {
        assert!(page.contains(part), "no {part}");
    }
}

#[test]
fn two_runs_are_compared_and_nothing_else_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b, other] = ["a", "b", "other.html"].map(|name| dir.path().join(name));
    write_run(&a, 1);
    write_run(&b, 2);
    let (stdout, _) = expect(0, &["report", s(&a), s(&b)]);
    assert_eq!(stdout.trim(), s(&a.join("comparison.html")));
    let page = fs::read_to_string(a.join("comparison.html")).unwrap();
    assert!(page.contains("<th scope=\"row\">seed</th><td>1</td><td>2</td>"), "{page}");
    // It is made of what the runs hold, so it is made again.
    expect(0, &["report", s(&a), s(&b), "--json"]);

    expect(0, &["report", s(&a), s(&b), "--out", s(&other)]);
    fs::write(&other, "mine").unwrap();
    let (_, stderr) = expect(2, &["report", s(&a), s(&b), "--out", s(&other)]);
    assert!(stderr.contains("--overwrite") && fs::read_to_string(&other).unwrap() == "mine");
    expect(0, &["report", s(&a), s(&b), "--out", s(&other), "--overwrite"]);
    let (_, stderr) = expect(2, &["report", s(&a), "--out", s(&other), "--overwrite"]);
    assert!(stderr.contains("expected engine report RUN RUN"), "{stderr}");
    assert!(expect(2, &["report", s(&a), s(&a)]).1.contains("the same folder"));
    expect(3, &["report", s(&a), s(dir.path())]);
    expect(2, &["report", s(&a), s(&b), s(&b)]);
}
