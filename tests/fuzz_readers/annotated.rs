//! Annotations, results and label images.

use std::fs;

use engine::data::annotated::{LabelImage, Objects, coco, results};
use image::ImageFormat;

use crate::common::fuzz::{Answer, Fuzz};
use crate::{encoded, limits, rgb};

/// JSON and XML take some hundred bytes for each of theirs.
const MOST_BYTES: u64 = 16 << 20;

fn answer<T>(read: engine::Result<T>) -> Answer {
    match read {
        Ok(_) => Answer::Taken,
        Err(e) => {
            assert_eq!(e.exit_code(), 3, "{e}");
            Answer::Refused(e.to_string())
        }
    }
}

const COCO: &str = r#"{"images": [{"id": 7, "height": 10, "width": 20}, {"id": "b"}],
"categories": [{"id": 1, "name": "cat"}], "annotations": [
{"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0,
 "segmentation": [[1, 2, 4, 2, 4, 6.5, 1, 6]]},
{"id": 2, "image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": 1,
 "segmentation": {"size": [10, 20], "counts": [11, 5, 184]}},
{"id": 3, "image_id": 7, "category_id": 1, "segmentation": {"size": [10, 20], "counts": ";5h5"}}]}"#;

#[test]
fn coco_annotations() {
    assert!(coco::parse(COCO.as_bytes(), "seed").is_ok());
    let seeds = vec![COCO.into()];
    Fuzz { name: "coco", seeds, inputs: 1000, repair: None, most_bytes: MOST_BYTES }
        .run(|bytes| answer(coco::parse(bytes, "x.json")));
}

#[test]
fn coco_results() {
    let truth = coco::parse(COCO.as_bytes(), "seed").unwrap();
    let seed = r#"[{"image_id": 7, "category_id": 1, "score": 0.5, "bbox": [1, 2, 3, 4],
        "segmentation": {"size": [10, 20], "counts": ";5h5"}},
        {"image_id": 7, "category_id": 1, "score": 1e-3, "bbox": [0.5, 2, 30, 4],
        "segmentation": [[0, 0, 9, 9, 0, 9]]}]"#;
    assert!(results::parse(seed.as_bytes(), "seed", &truth).is_ok());
    let seeds = vec![seed.into()];
    Fuzz { name: "results", seeds, inputs: 1000, repair: None, most_bytes: MOST_BYTES }
        .run(|bytes| answer(results::parse(bytes, "x.json", &truth)));
}

#[test]
fn pascal_voc() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("Annotations/1.xml");
    fs::create_dir(file.parent().unwrap()).unwrap();
    let seed = "<annotation><size><width>9</width><height>8</height></size><object><name>a</name>\
                <bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3.5</xmax><ymax>4</ymax></bndbox>\
                <difficult>0</difficult></object></annotation>";
    let seeds = vec![seed.into()];
    Fuzz { name: "voc", seeds, inputs: 600, repair: None, most_bytes: MOST_BYTES }.run(|bytes| {
        fs::write(&file, bytes).unwrap();
        answer(Objects::open(dir.path().to_str().unwrap()))
    });
}

#[test]
fn label_images() {
    let grey = image::DynamicImage::from(rgb().to_luma8());
    let seeds = vec![encoded(&grey, ImageFormat::Png)];
    let most_bytes = limits().decode_bytes;
    Fuzz {
        name: "labels",
        seeds,
        inputs: 600,
        repair: Some(crate::images::repair_png),
        most_bytes,
    }
    .run(|bytes| {
        let read = LabelImage::decode(bytes, &limits());
        if let Ok(image) = &read {
            assert_eq!(image.labels.len(), image.width * image.height);
        }
        answer(read)
    });
}
