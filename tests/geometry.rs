//! Boxes and masks against torch, torchvision and pycocotools: `tests/fixtures/geometry.py` has made
//! the numbers by detectron2's rules.

use std::fs;
use std::path::Path;

use engine::geometry::corners::fpn_level;
use engine::geometry::matcher::{Label, Matcher};
use engine::geometry::nms::{nms, nms_per_class};
use engine::geometry::paste::{mask_target, paste};
use engine::geometry::proposals::{
    DetectionSettings, LevelOutput, ProposalSettings, detections, proposals,
};
use engine::geometry::{Anchors, Coder, Corners, Mask, Rle};
use serde::de::DeserializeOwned;
use serde_json::Value;

const RATIOS: [f64; 3] = [0.5, 1.0, 2.0];

fn fixture(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/geometry.json");
    let all: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    all[name].clone()
}

fn cases(name: &str) -> Vec<Value> {
    get(&fixture(name))
}

fn get<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

/// All numbers agree within 1e-5 of themselves, or of 1 where they are smaller.
fn near(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= 1e-5 * e.abs().max(1.0), "{what}, number {i}: {f} {e}");
    }
}

#[test]
fn anchors_are_those_of_the_formula() {
    for case in cases("anchors") {
        let grid = [get(&case["height"]), get(&case["width"])];
        let sizes: Vec<f64> = get(&case["sizes"]);
        let anchors = Anchors::new(get(&case["stride"]), &sizes, &RATIOS, grid);
        let found: Vec<Corners> = (0..anchors.len()).map(|i| anchors.get(i)).collect();
        assert_eq!(found, get::<Vec<Corners>>(&case["anchors"]));
    }
}

#[test]
fn the_same_boxes_stay() {
    for case in cases("nms") {
        let (boxes, scores): (Vec<Corners>, Vec<f32>) = (get(&case["boxes"]), get(&case["scores"]));
        let threshold = get(&case["threshold"]);
        assert_eq!(nms(&boxes, &scores, threshold), get::<Vec<usize>>(&case["one"]));
        let classes: Vec<usize> = get(&case["classes"]);
        let found = nms_per_class(&boxes, &scores, &classes, threshold);
        assert_eq!(found, get::<Vec<usize>>(&case["each"]));
    }
}

#[test]
fn differences_of_boxes_agree() {
    for case in cases("coder") {
        let coder = Coder { weights: get(&case["weights"]) };
        let [source, target, deltas] =
            ["source", "target", "deltas"].map(|name| get::<Vec<Corners>>(&case[name]));
        let of = |f: fn(&Coder, &Corners, &[f32; 4]) -> [f32; 4], with: &[[f32; 4]]| {
            let pairs = source.iter().zip(with);
            pairs.map(|(s, w)| f(&coder, s, w)).collect::<Vec<_>>()
        };
        let expected = |name: &str| get::<Vec<Corners>>(&case[name]);
        let encoded = of(Coder::encode, &target);
        near(encoded.as_flattened(), expected("encoded").as_flattened(), "encoded");
        let decoded = of(Coder::decode, &deltas);
        near(decoded.as_flattened(), expected("decoded").as_flattened(), "decoded");
    }
}

#[test]
fn matches_agree_also_where_boxes_tie() {
    for case in cases("matcher") {
        let matcher = Matcher {
            low: get(&case["low"]),
            high: get(&case["high"]),
            low_quality: get(&case["low_quality"]),
        };
        let boxes: Vec<Corners> = get(&case["boxes"]);
        let found = matcher.boxes(&boxes, &get::<Vec<Corners>>(&case["truths"]));
        let found = found.labels.iter().zip(&found.truth).map(|(label, &truth)| match label {
            Label::Positive => i64::from(truth),
            Label::Negative => -1,
            Label::Ignored => -2,
        });
        assert_eq!(found.collect::<Vec<_>>(), get::<Vec<i64>>(&case["matches"]));
    }
}

#[test]
fn levels_agree() {
    let case = fixture("levels");
    let found: Vec<usize> = get::<Vec<Corners>>(&case["boxes"]).iter().map(fpn_level).collect();
    assert_eq!(found, get::<Vec<usize>>(&case["levels"]));
}

#[test]
fn pasted_masks_have_the_same_pixels() {
    for case in cases("paste") {
        let size = (get(&case["height"]), get(&case["width"]));
        let (mask, side) = (get::<Vec<f32>>(&case["mask"]), get(&case["side"]));
        let found = paste(&mask, side, &get(&case["box"]), size, 0.5).unwrap();
        assert_eq!(found.to_text(), case["pasted"], "{}", case["box"]);
        assert!(found.area() > 0);
    }
}

#[test]
fn targets_of_masks_have_the_same_cells() {
    for case in cases("targets") {
        let (height, width) = (get(&case["height"]), get(&case["width"]));
        let text: String = get(&case["mask"]);
        let pixels = Mask::Rle(Rle::from_text(height, width, &text).unwrap());
        let polygons = Mask::Polygons(get(&case["polygons"]));
        let side: usize = get(&case["side"]);
        for (mask, expected) in [(&polygons, "of_polygons"), (&pixels, "of_mask")] {
            let found = mask_target(mask, &get(&case["roi"]), side).unwrap();
            let text: String = get(&case[expected]);
            let expected = Rle::from_text(side as u32, side as u32, &text).unwrap();
            let (mut cells, mut at, mut inside) = (vec![false; side * side], 0, false);
            for &count in expected.counts() {
                (at..at + count as usize).for_each(|i| cells[i % side * side + i / side] = inside);
                (at, inside) = (at + count as usize, !inside);
            }
            assert_eq!(found, cells, "{}", case["roi"]);
        }
    }
}

#[test]
fn proposals_agree() {
    let case = fixture("proposals");
    let levels: Vec<(Anchors, Vec<f32>, Vec<f32>)> = get::<Vec<Value>>(&case["levels"])
        .iter()
        .map(|l| {
            let sizes: Vec<f64> = get(&l["sizes"]);
            let anchors = Anchors::new(get(&l["stride"]), &sizes, &RATIOS, get(&l["grid"]));
            (anchors, get(&l["logits"]), get(&l["deltas"]))
        })
        .collect();
    let output: Vec<LevelOutput> = levels
        .iter()
        .map(|(anchors, logits, deltas)| LevelOutput { anchors, logits, deltas })
        .collect();
    let (pre, post) = (get(&case["pre"]), get(&case["post"]));
    let settings = ProposalSettings { pre, post, nms: 0.7, coder: Coder::RPN };
    let found = proposals(&output, [get(&case["height"]), get(&case["width"])], &settings);
    let logits: Vec<f32> = found.iter().map(|p| p.logit).collect();
    assert_eq!(logits, get::<Vec<f32>>(&case["logits"]));
    let boxes: Vec<Corners> = found.iter().map(|p| p.bbox).collect();
    near(boxes.as_flattened(), get::<Vec<Corners>>(&case["boxes"]).as_flattened(), "boxes");
}

#[test]
fn detections_agree() {
    let case = fixture("detections");
    let (scores, boxes): (Vec<f32>, Vec<Corners>) = (get(&case["scores"]), get(&case["boxes"]));
    let settings = DetectionSettings { score: 0.1, nms: 0.3, top_k: 15 };
    let found = detections(&scores, &boxes, get(&case["classes"]), [80.0, 90.0], &settings);
    let order: Vec<[usize; 2]> = found.iter().map(|f| [f.roi, f.class]).collect();
    assert_eq!(order, get::<Vec<[usize; 2]>>(&case["found"]));
    let boxes: Vec<Corners> = found.iter().map(|f| f.bbox).collect();
    assert_eq!(boxes, get::<Vec<Corners>>(&case["clipped"]));
}

/// Anchors of a pyramid over an image of 800×1344 pixels, and many true boxes.
#[test]
fn a_large_image_is_matched_at_once() {
    let map = |stride: usize| [800_usize.div_ceil(stride), 1344_usize.div_ceil(stride)];
    let levels: Vec<Anchors> = [4, 8, 16, 32, 64]
        .iter()
        .map(|&stride| Anchors::new(stride, &[8.0 * stride as f64], &RATIOS, map(stride)))
        .collect();
    let count: usize = levels.iter().map(Anchors::len).sum();
    assert!(count > 260_000, "{count}");
    let truths: Vec<Corners> = (0..300)
        .map(|i| {
            let (x, y) = ((i * 37 % 1300) as f32, (i * 53 % 760) as f32);
            [x, y, x + 10.0 + (i % 30) as f32, y + 10.0 + (i % 23) as f32]
        })
        .collect();
    let found = Matcher::RPN.anchors(&levels, &truths);
    let positive = found.labels.iter().filter(|l| **l == Label::Positive).count();
    assert!(positive > 300, "{positive}");
}
