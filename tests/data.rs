//! Views and evaluation crops against torchvision on PIL images, with the same parameters.
//! `tests/fixtures/views.py` makes the fixture.

use std::path::Path;
use std::sync::Arc;

use engine::data::{
    Adjust, Crop, Dataset, Filter, IMAGENET_MEAN, IMAGENET_STD, Image, Scratch, ViewParams, Views,
    eval_batches, render,
};
use safetensors::SafeTensors;
use serde_json::Value;

const SIDE: usize = 40;

fn fixture() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/views.safetensors");
    std::fs::read(path).unwrap()
}

fn image(file: &SafeTensors, name: &str) -> Image {
    let tensor = file.tensor(name).unwrap();
    let (height, width) = (tensor.shape()[0], tensor.shape()[1]);
    Image { width, height, rgb: tensor.data().to_vec() }
}

fn params(case: &Value) -> ViewParams {
    let crop: Vec<usize> =
        case["crop"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect();
    let mut adjust = [None; 4];
    for (slot, step) in adjust.iter_mut().zip(case["adjust"].as_array().unwrap()) {
        let factor = step[1].as_f64().unwrap() as f32;
        *slot = Some(match step[0].as_str().unwrap() {
            "brightness" => Adjust::Brightness(factor),
            "contrast" => Adjust::Contrast(factor),
            "saturation" => Adjust::Saturation(factor),
            "hue" => Adjust::Hue(factor),
            other => panic!("{other}"),
        });
    }
    ViewParams {
        crop: Crop { x: crop[0], y: crop[1], width: crop[2], height: crop[3] },
        filter: match case["filter"].as_str().unwrap() {
            "bilinear" => Filter::Bilinear,
            "bicubic" => Filter::Bicubic,
            other => panic!("{other}"),
        },
        adjust,
        grey: case["grey"].as_bool().unwrap(),
        blur_sigma: case["blur"].as_f64().map(|s| s as f32),
        solarise: case["solarise"].as_u64().map(|t| t as u8),
        flip: case["flip"].as_bool().unwrap(),
    }
}

/// Mean and worst difference in levels of 255 between normalised pixels and bytes.
fn differences(x: &[f32], bytes: &[u8]) -> (f64, f64) {
    assert_eq!(x.len(), bytes.len());
    let apart = |(i, (x, b)): (usize, (&f32, &u8))| {
        let level = (x * IMAGENET_STD[i % 3] + IMAGENET_MEAN[i % 3]) * 255.0;
        f64::from((level - f32::from(*b)).abs())
    };
    let all: Vec<f64> = x.iter().zip(bytes).enumerate().map(apart).collect();
    (all.iter().sum::<f64>() / all.len() as f64, all.iter().copied().fold(0.0, f64::max))
}

#[test]
fn views_are_torchvisions() {
    let bytes = fixture();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let cases: Vec<Value> =
        serde_json::from_str(&header.metadata().as_ref().unwrap()["cases"]).unwrap();
    let image = image(&file, "image");
    let normalise = Views::moco_v2().normalise();
    let mut scratch = Scratch::default();
    let mut out = vec![0.0; SIDE * SIDE * 3];
    assert!(cases.len() > 20);
    for (i, case) in cases.iter().enumerate() {
        render(&image, &params(case), &normalise, SIDE, &mut scratch, &mut out);
        let expected = file.tensor(&format!("view.{i:02}")).unwrap();
        let (mean, worst) = differences(&out, expected.data());
        println!("{i:2} mean {mean:.4} worst {worst:.1} {case}");
        assert!(mean < 0.03 && worst < 8.0, "mean {mean}, worst {worst}: {case}");
    }
}

#[test]
fn evaluation_crops_are_torchvisions() {
    let bytes = fixture();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for i in 0..3 {
        let source = image(&file, &format!("source.{i}"));
        let path = dir.path().join(format!("{i}.png"));
        let (width, height) = (source.width as u32, source.height as u32);
        image::save_buffer(&path, &source.rgb, width, height, image::ColorType::Rgb8).unwrap();
    }
    let dataset = Arc::new(Dataset::open(&[dir.path().to_str().unwrap().to_owned()]).unwrap());
    let batches = eval_batches(dataset, &[0, 1, 2], &engine::data::Input::rgb(SIDE), 1, 1).unwrap();
    assert_eq!(batches.batches(), 3);
    for (i, batch) in batches.enumerate() {
        let expected = file.tensor(&format!("centre.{i}")).unwrap();
        let (mean, worst) = differences(&batch.unwrap().x, expected.data());
        println!("{i} mean {mean:.4} worst {worst:.1}");
        assert!(mean < 0.02 && worst < 2.0, "image {i}: mean {mean}, worst {worst}");
    }
}
