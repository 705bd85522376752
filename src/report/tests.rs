//! Whole pages from made-up runs.

use std::fs;
use std::path::Path;

use super::run::Run;
use super::{labels, sample_run};
use crate::nn::Feature;
use crate::search::read_candidates;
use crate::space::Space;
use crate::train::Health;

/// The page of a made-up run.
fn page(dir: &Path) -> String {
    let path = super::run(dir).unwrap();
    fs::read_to_string(path).unwrap()
}

fn count(page: &str, what: &str) -> usize {
    page.matches(what).count()
}

#[test]
fn a_full_run_has_every_part_and_needs_no_network() {
    let dir = tempfile::tempdir().unwrap();
    sample_run::write(dir.path(), "tiny", 300, 60);
    let page = page(dir.path());
    // Ten curves; two searches with a chart each, one with four levels; drawings of winners.
    assert!(count(&page, "<svg") >= 8 + 2 + 4 + 2, "{} drawings", count(&page, "<svg"));
    // A contact sheet, and four images with two views each.
    assert_eq!(count(&page, "data:image/png;base64,"), 1 + 3 * 4);
    for part in [
        "Training is healthy: the embeddings have a spread of 0.9",
        "0.15: collapsed below",
        "Rank of the embeddings",
        "ln(1 + 4,096) = 8.32",
        "Search: cls-images",
        "Level c3",
        "[moco]",
        "Does the score rank nets? Spearman’s ρ = 0.9",
        "untrained",
        "Nearest neighbours during training",
        "raw pixels (shapes)",
        "histogram (textures)",
        "60.0 % ±2.2",
        "41.3 %",
        "The net is below raw pixels by more than 2 standard errors: 20.0 % against 41.3 %.",
        "env.json: program and machine",
    ] {
        assert!(page.contains(part), "no {part:?}");
    }
    let outside = ["http://", "https://", "src=\"/", "<link", "@import", "fetch("];
    assert!(outside.iter().all(|o| !page.contains(o)));
    // A browser refuses what the page might ask for all the same.
    assert!(page.contains("Content-Security-Policy\" content=\"default-src 'none'; img-src data:"));
    assert!(!page.contains("NaN"));
    // A net stands in one row with itself untrained: three nets, two sets, two accuracies each.
    let rows = page.split("<h2 id=\"evaluations\">").nth(1).unwrap();
    let rows = rows.split("<h2 id=\"settings\">").next().unwrap();
    assert_eq!(count(rows, "<tr><td>"), 3 * 2 * 2);
    assert!(count(rows, "<td class=\"num\">20.0 %</td>") >= 6);
}

/// Every number that the report reads of a step is one that training writes.
#[test]
fn what_is_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    sample_run::write(dir.path(), "tiny", 3, 0);
    sample_run::extended_checkpoint(dir.path());
    let run = Run::open(dir.path()).unwrap();
    assert_eq!((run.steps.len(), run.bad_lines), (3, 0));
    for step in &run.steps {
        let numbers = [
            step.step,
            step.time_s,
            run.loss(step),
            step.lr,
            step.grad_norm,
            step.feature_std,
            step.spread,
            step.rank,
            step.teacher_spread,
            step.teacher_rank,
            step.images_per_s,
            step.data_wait_ms,
            step.device_mem_bytes,
        ];
        assert!(numbers.iter().all(Option::is_some) && step.health.is_some(), "{step:?}");
    }
    assert_eq!(run.status["state"], "done");
    assert_eq!(run.number("moco.queue"), Some(4096.0));
    assert!(run.command.starts_with("engine train") && run.env["device"] == "cpu");
    let page = page(dir.path());
    assert!(page.contains("At step 6 the run was extended from 6 to 10 steps"));
}

/// Takes entries away from every line of metrics.
fn forget(dir: &Path, names: &[&str]) {
    let path = dir.join("metrics.jsonl");
    let mut text = String::new();
    for line in fs::read_to_string(&path).unwrap().lines() {
        let mut line: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(line).unwrap();
        for name in names {
            assert!(line.remove(*name).is_some(), "no {name} in {line:?}");
        }
        text += &(serde_json::to_string(&line).unwrap() + "\n");
    }
    fs::write(path, text).unwrap();
}

/// Lines of metrics from before spread, rank and verdict were written, of a run that went badly.
#[test]
fn older_runs_are_judged_by_their_deviation() {
    let dir = tempfile::tempdir().unwrap();
    let (mut folder, _) = sample_run::begin(dir.path(), "tiny", &["moco.head_norm=false"]);
    let report = sample_run::report(Space::preset("tiny").unwrap().max(), 2.0, 0.01);
    for step in 0..40 {
        folder.write_metrics(&sample_run::facts(step, Health::Healthy), &report, None).unwrap();
    }
    forget(dir.path(), &["spread", "rank", "teacher_spread", "teacher_rank", "health"]);
    let page = page(dir.path());
    let verdict = page.find("Training is collapsed: the embeddings have a spread of 0.113");
    let verdict = page[verdict.unwrap()..].split("</").next().unwrap();
    assert!(verdict.contains("moco.head_norm=true") && !page.contains("Rank of the embeddings"));
    // A loss far below that of equal embeddings proves nothing.
    assert!(!verdict.contains("guessing") && !verdict.contains("tells"), "{verdict}");
}

#[test]
fn a_run_without_anything_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    sample_run::begin(dir.path(), "tiny", &[]);
    let page = page(dir.path());
    assert!(page.contains("No step has been taken yet"));
    assert!(page.contains("engine search --ckpt"));
    assert!(page.contains("engine eval knn --ckpt"));
}

#[test]
fn one_step_and_one_candidate_are_enough() {
    let dir = tempfile::tempdir().unwrap();
    sample_run::write(dir.path(), "tiny", 1, 1);
    let page = page(dir.path());
    assert!(count(&page, "<svg") > 5);
    assert!(page.contains("too early to tell"));
}

#[test]
fn names_from_outside_cannot_break_the_page() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("<b>run & co");
    sample_run::begin(&run, "tiny", &[]);
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    fs::write(run.join("config.toml"), config + "# <script>alert(1)</script>\n").unwrap();
    let page = page(&run);
    assert!(page.contains("alert(1)") && page.contains("run &amp; co"), "not shown");
    assert!(count(&page, "<script>") == 1 && !page.contains("<b>run"), "unescaped");
}

#[test]
fn a_search_has_a_page_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let space = Space::preset("tiny").unwrap();
    sample_run::search(dir.path(), &space, 40, &[Feature::C4, Feature::C5]);
    let page = fs::read_to_string(super::search(dir.path()).unwrap()).unwrap();
    assert!(
        page.contains("Winners") && page.contains("Level c5") && page.contains("class=\"block")
    );
    fs::remove_file(dir.path().join("winners.json")).unwrap();
    let page = fs::read_to_string(super::search(dir.path()).unwrap()).unwrap();
    assert!(page.contains("This search is not finished") && page.contains(">not finished</span>"));
}

#[test]
fn an_unfinished_search_stands_last_and_is_marked() {
    let dir = tempfile::tempdir().unwrap();
    sample_run::write(dir.path(), "tiny", 3, 20);
    // By name it would be the first.
    fs::remove_file(dir.path().join("search/cls-images/winners.json")).unwrap();
    let page = page(dir.path());
    let place = |what: &str| page.find(what).unwrap_or_else(|| panic!("no {what:?}"));
    let [finished, unfinished] = ["Search: det-fpn-images", "Search: cls-images"].map(place);
    assert!(finished < unfinished && unfinished < place(">not finished</span>"));
    assert_eq!(count(&page, ">not finished</span>"), 1);
}

#[test]
fn rows_of_one_net_stand_together() {
    let dir = tempfile::tempdir().unwrap();
    sample_run::write(dir.path(), "tiny", 3, 0);
    let space = Space::preset("tiny").unwrap();
    let archs = [space.max(), space.nth(space.count() / 2), space.min()];
    // Untrained nets that learnt from fewer images are no baselines of the trained ones.
    for (arch, (step, images)) in archs.iter().flat_map(|a| [(0, 100), (300, 2000)].map(|s| (a, s)))
    {
        sample_run::evaluation(
            &dir.path().join("eval"),
            (&space, *arch, step),
            "shapes",
            images,
            0.5,
        );
    }
    let page = page(dir.path());
    let rows = page.split("<h2 id=\"evaluations\">").nth(1).unwrap();
    let nets: Vec<&str> = rows
        .split("<tr><td>")
        .skip(1)
        .map(|row| row.split("class=\"mono\">").nth(1).unwrap().split('<').next().unwrap())
        .collect();
    let expected: Vec<String> = archs.iter().rev().flat_map(|a| vec![a.to_string(); 4]).collect();
    assert_eq!(nets, expected);
}

#[test]
fn charts_are_drawn_for_narrow_screens_too() {
    let dir = tempfile::tempdir().unwrap();
    sample_run::write(dir.path(), "tiny", 300, 60);
    let page = page(dir.path());
    let charts = count(&page, "class=\"for-wide\"");
    assert!(charts > 12 && count(&page, "class=\"for-narrow\"") == charts);
    // Letters keep their size: on a screen of 400 a card is as wide as these charts.
    assert!(count(&page, "viewBox=\"0 0 340 ") == charts);
    for svg in page.split("<svg").skip(1) {
        labels::expect_apart(svg.split("</svg>").next().unwrap());
    }
}

#[test]
fn damage_is_exit_3() {
    let dir = tempfile::tempdir().unwrap();
    sample_run::write(dir.path(), "tiny", 3, 3);
    fs::write(dir.path().join("status.json"), "{").unwrap();
    assert_eq!(super::run(dir.path()).unwrap_err().kind(), crate::Kind::Data);
    assert_eq!(super::search(&dir.path().join("examples")).unwrap_err().kind(), crate::Kind::Data);
}

/// Evaluations of a search's first nets, as `engine eval knn` leaves them.
fn evaluate(run: &Path, search: &str, nets: usize, step: u64) {
    let space = Space::preset("tiny").unwrap();
    let candidates = read_candidates(&run.join("search").join(search).join("candidates.jsonl"));
    for net in candidates.unwrap().iter().take(nets) {
        let worth = 0.2 + 0.5 * net.score;
        sample_run::evaluation(&run.join("eval"), (&space, net.arch, step), "hands", 900, worth);
    }
}

#[test]
fn labels_are_held_against_searches() {
    let dir = tempfile::tempdir().unwrap();
    sample_run::write(dir.path(), "tiny", 3, 60);
    let (run, search) = (dir.path(), dir.path().join("search/cls-images"));
    let agreement = search.join("agreement.json");
    assert!(!page(run).contains("What labels say") && !agreement.exists());

    // Of another step: they say nothing of this search.
    evaluate(run, "cls-images", 30, 200);
    assert!(!page(run).contains("What labels say"));
    evaluate(run, "cls-images", 30, 300);
    let page = page(run);
    for part in [
        "What labels say: knn on pool",
        "500 test images of p&#x2f;hands&#x2f;test",
        "score given MACs",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let held: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&agreement).unwrap()).unwrap();
    let held = &held[0];
    assert_eq!(
        (&held["nets"], &held["test_images"], &held["step"]),
        (&30.into(), &500.into(), &300.into())
    );
    // Accuracies are made of scores.
    assert!((held["score"]["rho"].as_f64().unwrap() - 1.0).abs() < 1e-12);
    assert_eq!(held["score_given_macs"]["resolved"], true);
    let own = fs::read_to_string(super::search(&search).unwrap()).unwrap();
    assert!(own.contains("What labels say"));

    // What is no longer so is not left standing.
    for entry in fs::read_dir(run.join("eval")).unwrap() {
        let path = entry.unwrap().path();
        if path.to_str().unwrap().contains("hands") {
            fs::remove_file(path).unwrap();
        }
    }
    super::run(run).unwrap();
    assert!(!agreement.exists());
}

#[test]
fn a_poor_teacher_is_said_on_both_pages() {
    let dir = tempfile::tempdir().unwrap();
    sample_run::write(dir.path(), "tiny", 3, 20);
    let search = dir.path().join("search/cls-images");
    let states = [
        (Health::Narrow, false, "narrow"),
        (Health::Narrow, true, "untrained"),
        (Health::Collapsing, false, "collapsing"),
    ];
    for (health, untrained, state) in states {
        sample_run::teacher(health, untrained).write(&search).unwrap();
        let own = fs::read_to_string(super::search(&search).unwrap()).unwrap();
        for page in [page(dir.path()), own] {
            assert!(page.contains(&format!("The teacher is {state}")));
            assert!(page.contains(&format!("teacher {state}: spread")));
        }
    }
}
