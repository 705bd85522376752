//! Metrics of dense tasks and readers of annotations, against pycocotools and by hand.

mod common;

use std::fs;
use std::path::Path;

use common::{expect, s};
use engine::geometry::Rle;
use engine::geometry::polygon::rasterise;
use serde_json::{Value, json};

/// A fixture made by `tests/fixtures/dense.py`.
fn fixture(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn write(path: &Path, text: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// What `engine eval WORDS --json` prints.
fn eval(words: &[&str]) -> Value {
    let out = expect(0, &[&["eval"], words, &["--json"]].concat()).0;
    serde_json::from_str(&out).unwrap()
}

/// What `engine eval WORDS` refuses with exit code 3.
fn refused(words: &[&str]) -> String {
    expect(3, &[&["eval"], words].concat()).1
}

/// Every number that is expected is found, within 1e-6.
fn agree(expected: &Value, found: &Value, place: &str) {
    for (name, expected) in expected.as_object().unwrap() {
        let place = format!("{place} {name}");
        match expected.as_f64() {
            None => agree(expected, &found[name], &place),
            Some(expected) => {
                let found = found[name].as_f64().unwrap_or(f64::NAN);
                assert!((expected - found).abs() <= 1e-6, "{place}: {expected} {found}");
            }
        }
    }
}

/// Of the fixture, or of the many more of `scripts/dense-check`.
#[test]
fn polygons_have_the_same_pixels() {
    let cases: Vec<Value> = match std::env::var_os("ENGINE_POLYGONS") {
        Some(path) => serde_json::from_slice(&fs::read(path).unwrap()).unwrap(),
        None => fixture("polygons.json"),
    };
    assert!(cases.len() >= 100);
    let list = |value: &Value| -> Vec<f64> { serde_json::from_value(value.clone()).unwrap() };
    for case in &cases {
        let [height, width] = ["height", "width"].map(|side| case[side].as_u64().unwrap() as u32);
        let polygons = case["polygons"].as_array().unwrap();
        let masks: Vec<Rle> =
            polygons.iter().map(|xy| rasterise(&list(xy), height, width).unwrap()).collect();
        for (mask, expected) in masks.iter().zip(case["parts"].as_array().unwrap()) {
            assert_eq!(mask.to_text(), expected.as_str().unwrap(), "{case}");
        }
        let union = Rle::union(&masks).unwrap();
        let text = case["union"].as_str().unwrap();
        assert_eq!(union.to_text(), text, "{case}");
        assert_eq!(Rle::from_text(height, width, text).unwrap(), union);
        let runs: Vec<u32> = serde_json::from_value(case["runs"].clone()).unwrap();
        assert_eq!(Rle::new(height, width, runs).unwrap(), union);
        assert_eq!(json!(union.area()), case["area"]);
        let bbox = union.bbox();
        assert_eq!([bbox.x, bbox.y, bbox.w, bbox.h].to_vec(), list(&case["box"]));
        let ious = [false, true].map(|crowd| union.iou(&masks[0], crowd));
        assert_eq!(ious.to_vec(), list(&case["iou"]), "{case}");
    }
}

#[test]
fn detections_are_scored_as_pycocotools_does() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("truth.json"), dir.path().join("found.json"));
    let words = ["det", "--detections", s(&file), "--data", s(&data)];
    let (mut boxes, mut masks) = (0, 0);
    for (n, case) in fixture("detections.json").iter().enumerate() {
        write(&data, case["truth"].to_string());
        write(&file, case["results"].to_string());
        let expected = &case["expected"];
        let found = eval(&words);
        agree(&expected["bbox"], &found, &format!("set {n}"));
        assert_eq!(found["metric"], "coco");
        match expected.get("segm") {
            Some(expected) => agree(expected, &found["mask"], &format!("masks of set {n}")),
            None => assert!(found.get("mask").is_none()),
        }
        masks += usize::from(expected.get("segm").is_some());
        for metric in ["voc07", "voc07-d2", "voc12"] {
            if let Some(expected) = expected.get(metric) {
                let found = eval(&[&words[..], &["--metric", metric]].concat());
                agree(expected, &found, &format!("{metric} of set {n}"));
                assert_eq!((&found["APs"], &found["metric"]), (&json!(-1.0), &json!(metric)));
                boxes += 1;
            }
        }
    }
    assert!(boxes > 10 && masks > 3, "{boxes} {masks}");
}
