//! Studies as a whole, of few images and steps.

mod common;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::runs::kill;
use common::{engine, expect, s};
use engine::data::synthetic::{self, Domain};
use serde_json::Value;

/// Two domains, drawn.
fn draw(dir: &Path) {
    for domain in [Domain::Shapes, Domain::Textures] {
        synthetic::write(&dir.join(domain.name()), domain, [96, 32], 32, 1).unwrap();
    }
}

/// `engine study` at the smallest scale, with more arguments.
fn study<'a>(dir: &'a [String; 4], out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let [train, test, transfer, domain] = dir.each_ref().map(String::as_str);
    let mut args = vec!["study", "--data", train, "--test-data", test, "--out", s(out)];
    args.extend(["--scale", "smoke", "--transfer", transfer, "--domain", domain]);
    args.extend(more);
    args
}

fn sources(dir: &Path) -> [String; 4] {
    let part = |domain: &str, name: &str| format!("{}#{name}", s(&dir.join(domain)));
    [
        part("shapes", "train"),
        part("shapes", "test"),
        format!("textures={},{}", part("textures", "train"), part("textures", "test")),
        format!("textures={}", part("textures", "train")),
    ]
}

/// The tables of a study, as they are on the disk.
fn tables(out: &Path) -> Vec<(String, String)> {
    let mut files: Vec<_> =
        fs::read_dir(out.join("tables")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    files.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Cells that are complete.
fn done(out: &Path) -> usize {
    let cells = fs::read_dir(out.join("cells"));
    cells.map_or(0, |all| all.filter(|c| c.as_ref().unwrap().path().join("DONE").exists()).count())
}

#[test]
fn a_killed_study_ends_with_the_same_tables() {
    let dir = tempfile::tempdir().unwrap();
    draw(dir.path());
    let sources = sources(dir.path());
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    let tables_of = ["--tables", "t2,f3,t9,t10"];
    let (text, _) = expect(0, &study(&sources, &whole, &tables_of));
    for part in ["T2  Ranking", "score of z", "NASWOT", "F3  Linear", "T10  Domains", "cells, "] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    // Every number of a row is from cells that are there.
    for (name, text) in tables(&whole).iter().filter(|(name, _)| name.ends_with(".json")) {
        let table: Value = serde_json::from_str(text).unwrap();
        assert_eq!(format!("{}.json", table["table"].as_str().unwrap()), *name);
        for row in table["rows"].as_array().unwrap() {
            for cell in row["cells"].as_array().unwrap() {
                let cell = whole.join("cells").join(cell.as_str().unwrap());
                let record = read(&cell.join("cell.json"));
                assert!(record["command"].as_str().unwrap().starts_with("engine "));
                assert_eq!(record["exit_code"], 0);
            }
        }
    }
    let ranking = read(&whole.join("tables/t2.json"));
    let score = &ranking["rows"][0];
    assert_eq!((&score["paper"]["spearman"], &score["ours"]["nets"]), (&0.9.into(), &4.0.into()));
    assert!(score["ours"]["spearman"].is_f64() && score["ci95"]["spearman_fisher"].is_array());
    for (i, how) in ["fine-tuned on", "nearest neighbours"].into_iter().enumerate() {
        let [found, points] = [0, 1].map(|k| &ranking["points"][i][k]);
        assert!(found.as_str().unwrap().starts_with(how), "{found}");
        assert_eq!(points.as_array().unwrap().len(), 4);
    }
    assert!(ranking["consistency"][0][1]["same_winner"].is_f64());
    let neighbours = fs::read_dir(whole.join("cells")).unwrap().map(|e| e.unwrap().path());
    let neighbours = neighbours.filter(|path| s(path).contains("/score-")).collect::<Vec<_>>();
    let evaluated = read(&neighbours[0].join("result.json"));
    for net in evaluated["subnets"].as_array().unwrap() {
        assert!(net["naswot"].as_f64().unwrap() > 0.0);
        assert_eq!(net["correct"].as_str().unwrap().len(), 32 / 4);
    }
    let ways = evaluated["worth"]["choosers"].as_array().unwrap();
    let by: Vec<&str> = ways.iter().map(|way| way["by"].as_str().unwrap()).collect();
    assert_eq!(by, ["score", "macs", "params", "naswot"]);
    let page = fs::read_to_string(whole.join("report.html")).unwrap();
    for part in
        ["Table 2. ", "Figure 3. ", "paper 0.90", "What choosing is worth", "<svg", "id=\"cells\""]
    {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("NaN") && !page.contains("://"), "the page needs no network");

    // The plan names the cells that do not wait for a search, and what they cost.
    let plan = ["--tables", "f3", "--plan", "--json"];
    let (plan, _) = expect(0, &study(&sources, &dir.path().join("none"), &plan));
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let planned = plan["cells"].as_array().unwrap();
    assert_eq!(planned.len(), 8);
    assert!(planned.iter().all(|cell| cell["seconds"].as_f64().unwrap() > 0.0), "{plan}");
    let name = planned[0]["name"].as_str().unwrap();
    assert!(whole.join("cells").join(name).exists() && !dir.path().join("none").exists());

    // Killed wherever it is, several times; its child dies with it.
    let args = [study(&sources, &killed, &tables_of), vec!["--resume"]].concat();
    let cells = done(&whole);
    for share in [1, 2] {
        let child = engine(&args).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let (began, before) = (Instant::now(), done(&killed));
        while done(&killed) < (share * cells / 3).max(before + 1) {
            assert!(began.elapsed() < Duration::from_secs(120));
            std::thread::sleep(Duration::from_millis(3));
        }
        // In the middle of the next cell.
        std::thread::sleep(Duration::from_millis(40 * share as u64));
        kill(child);
    }
    expect(0, &args);
    assert_eq!(tables(&whole), tables(&killed));
    assert_eq!(done(&killed), cells);

    // Nothing is left to do, and without --resume nothing is touched.
    let (_, log) = expect(0, &args);
    assert!(!log.contains("cell "), "{log}");
    let (_, said) = expect(2, &study(&sources, &killed, &tables_of));
    assert!(said.contains("--resume to go on with the study in it"), "{said}");
}

#[test]
fn a_cell_that_diverges_is_an_entry_and_exit_4() {
    let dir = tempfile::tempdir().unwrap();
    draw(dir.path());
    let sources = sources(dir.path());
    let out = dir.path().join("study");
    // Only ReSSL reads its temperature.
    let args = study(&sources, &out, &["--tables", "t7", "ressl.tau_student=1e-30"]);
    let (_, said) = expect(4, &args);
    assert!(said.contains("diverged or collapsed, and stand as entries"), "{said}");
    let table = read(&out.join("tables/t7.json"));
    let rows = table["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 9);
    for row in rows {
        let name = row["name"].as_str().unwrap();
        let failed = name.starts_with("ressl");
        assert_eq!(row["ours"]["top1"].is_null(), failed, "{row}");
        assert_eq!(row["note"].as_str().is_some_and(|note| note.starts_with("failed (")), failed);
        assert_eq!(row["seeds"].as_u64() == Some(0), failed);
    }
    // It is not tried again.
    let (_, log) = expect(4, &[args, vec!["--resume"]].concat());
    assert!(!log.contains("cell 1"), "{log}");
}

#[test]
fn a_study_of_a_space_of_ones_own() {
    let dir = tempfile::tempdir().unwrap();
    draw(dir.path());
    let [train, test, ..] = sources(dir.path());
    let (space, out) = (dir.path().join("own.toml"), dir.path().join("study"));
    let text = "name = \"own\"\nlike = \"tiny\"\nblock = \"basic\"\nresolution = 16\n";
    fs::write(&space, text).unwrap();
    let args = ["study", "--data", &train, "--test-data", &test, "--out", s(&out), "--quiet"];
    let more = ["--scale", "smoke", "--tables", "t8", "preset=own.toml"];
    // Named as seen from here, while cells run elsewhere.
    let done =
        common::engine(&[&args[..], &more].concat()).current_dir(dir.path()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let found = read(&out.join("tables/t8.json"));
    assert!(!found["rows"].as_array().unwrap().is_empty(), "{found}");
}

#[test]
fn dense_tables_are_made_of_annotated_images() {
    let dir = tempfile::tempdir().unwrap();
    draw(dir.path());
    let [train, test, ..] = sources(dir.path());
    let (shapes, out) = (dir.path().join("drawn"), dir.path().join("study"));
    let sizes = ["--images", "8", "--test", "3", "--side", "64"];
    expect(0, &[&["data", "shapes", "--out", s(&shapes)][..], &sizes].concat());
    let set = format!("drawn={0}#train,{0}#test", s(&shapes));
    let study = |more: &[&str]| {
        let args = ["study", "--data", &train, "--test-data", &test, "--out", s(&out)];
        let sets = ["--scale", "smoke", "--boxes", &set, "--pixels", &set];
        [&args[..], &sets, more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let run = |code: i32, more: &[&str]| {
        let args = study(more);
        expect(code, &args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let (text, _) = run(0, &["--tables", "t5,t6"]);
    for part in ["T5  Boxes", "T6  Classes of pixels", "winner in the reference's budget on drawn"]
    {
        assert!(text.contains(part), "{part}\n{text}");
    }
    for (table, column, cell) in [("t5", "ap50", "det-c4"), ("t6", "miou", "seg")] {
        let table = read(&out.join(format!("tables/{table}.json")));
        let rows = table["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 3);
        for row in rows {
            let value = row["ours"][column].as_f64().unwrap();
            assert!((0.0..=1.0).contains(&value) && row["seeds"] == 1, "{row}");
            assert_eq!(row["ci95"], serde_json::json!({}));
            // The number is that of the cell's own test.
            let dir = out.join("cells").join(row["cells"][0].as_str().unwrap());
            let record = read(&dir.join("cell.json"));
            assert!(record["command"].as_str().unwrap().contains(&format!("--task {cell}")));
            let result = read(&dir.join("result.json"));
            let key = if column == "miou" { "miou" } else { "AP50" };
            assert_eq!(result[key].as_f64(), Some(value));
            assert_eq!(result["test"]["images"], 3);
        }
    }
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    for part in ["Table 5. ", "Table 6. ", "paper 57.2", "mIoU", "no interval", "drawn: 8 images"] {
        assert!(page.contains(part), "{part}");
    }
    // Nothing is left to do; the annotations count among the images.
    let (_, log) = run(0, &["--tables", "t5,t6", "--resume"]);
    assert!(!log.contains("cell "), "{log}");
    let (_, said) = run(2, &["--tables", "f4", "--resume"]);
    assert!(said.contains("--transfer NAME=TRAIN,TEST"), "{said}");
    let wrong = ["--boxes", "none=no-such,no-such", "--tables", "t5", "--resume"];
    let (_, said) = run(3, &wrong);
    assert!(said.contains("no-such"), "{said}");
}
