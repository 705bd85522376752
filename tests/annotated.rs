//! Images of annotated data sets, and what training does to them.

mod common;

use std::fs;
use std::path::Path;

use common::{expect, s};
use engine::data::annotated::transforms::{Distortion, nearest};
use engine::data::annotated::{ImageFiles, LabelImages, Objects};
use engine::data::{Dataset, Image};
use serde_json::{Value, json};

fn fixture() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/transforms.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn colours_are_distorted_as_opencv_does() {
    let fixture = fixture();
    let rgb = |value: &Value| serde_json::from_value::<Vec<u8>>(value.clone()).unwrap();
    for case in fixture["distortions"].as_array().unwrap() {
        let number = |name: &str| case[name].as_f64().map(|v| v as f32);
        let distortion = Distortion {
            brightness: number("brightness"),
            contrast: number("contrast"),
            contrast_last: case["contrast_last"].as_bool().unwrap(),
            saturation: number("saturation"),
            hue: number("hue").map(|v| v as i16),
        };
        let mut image = Image { width: 16, height: 16, rgb: rgb(&fixture["rgb"]) };
        distortion.apply(&mut image);
        for (i, (found, expected)) in image.rgb.iter().zip(rgb(&case["rgb"])).enumerate() {
            assert_eq!(*found, expected, "{distortion:?}, value {i}");
        }
    }
}

#[test]
fn the_nearest_pixels_are_opencvs() {
    for case in fixture()["nearest"].as_array().unwrap() {
        let side = |name: &str| case[name].as_u64().unwrap() as usize;
        assert_eq!(json!(nearest(side("from"), side("to"))), case["taken"], "{case}");
    }
}

fn write(path: &Path, text: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// An image whose first pixel is red; JPEG with this orientation where there is one.
fn draw(path: &Path, width: u32, height: u32, orientation: Option<u8>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut image = image::RgbImage::from_pixel(width, height, image::Rgb([0, 0, 250]));
    for (x, y) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        image.put_pixel(x, y, image::Rgb([250, 0, 0]));
    }
    image.save(path).unwrap();
    if let Some(orientation) = orientation {
        let jpeg = fs::read(path).unwrap();
        let exif = [
            b"\xff\xe1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".as_slice(),
            &[orientation, 0, 0, 0, 0, 0, 0],
        ];
        fs::write(path, [&jpeg[..2], &exif.concat(), &jpeg[2..]].concat()).unwrap();
    }
}

fn annotations(files: &[(&str, u32, u32)]) -> String {
    let image = |(id, (file, width, height)): (usize, &(&str, u32, u32))| json!({"id": id, "file_name": file, "width": width, "height": height});
    let images: Vec<Value> = files.iter().enumerate().map(image).collect();
    json!({"images": images, "categories": [{"id": 1, "name": "a"}], "annotations": []}).to_string()
}

fn tarred(dir: &Path, name: &str) -> std::path::PathBuf {
    let path = dir.with_extension("tar");
    let mut tar = tar::Builder::new(fs::File::create(&path).unwrap());
    tar.append_dir_all(name, dir).unwrap();
    tar.into_inner().unwrap();
    path
}

/// Widths of all images that are found.
fn widths(source: &str, images: Option<&str>) -> engine::Result<Vec<usize>> {
    let objects = Objects::open(source)?;
    let files = ImageFiles::find(&objects, source, images)?;
    assert_eq!(files.len(), objects.images.len());
    (0..files.len()).map(|i| files.load(i).map(|image| image.width)).collect()
}

#[test]
fn images_of_objects_are_found_where_they_usually_lie() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for folder in ["val", "images/val", "images", "JPEGImages", ""] {
        let root = at("set");
        write(
            &root.join("annotations/instances_val.json"),
            annotations(&[("b/1.png", 9, 5), ("2.png", 8, 4)]),
        );
        draw(&root.join(folder).join("b/1.png"), 9, 5, None);
        draw(&root.join(folder).join("2.png"), 8, 4, None);
        let archive = tarred(&root, "./set");
        let json = root.join("annotations/instances_val.json");
        let named = |path: &Path| format!("{}#val", s(path));
        for source in [named(&root), s(&root).to_owned(), s(&json).to_owned(), named(&archive)] {
            assert_eq!(widths(&source, None).unwrap(), [9, 8], "{folder}: {source}");
        }
        let images = root.join(folder);
        for source in [named(&root), s(&json).to_owned()] {
            assert_eq!(widths(&source, Some(s(&images))).unwrap(), [9, 8], "{folder}");
        }
        fs::remove_dir_all(&root).unwrap();
    }
    let xml = "<annotation><size><width>9</width><height>5</height></size></annotation>";
    write(&at("VOC/Annotations/1.xml"), xml);
    write(&at("VOC/ImageSets/Main/test.txt"), "1\n");
    draw(&at("VOC/SegmentationClass/1.png"), 3, 3, None);
    let source = format!("{}#test", s(&at("VOC")));
    let e = widths(&source, None).unwrap_err().to_string();
    assert!(e.contains("expected its image 1 in") && e.contains("--images"), "{e}");
    draw(&at("VOC/JPEGImages/1.jpg"), 9, 5, None);
    assert_eq!(widths(&source, None).unwrap(), [9]);
}

#[test]
fn images_that_lack_or_do_not_fit_are_said() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let json = at("instances_a.json");
    let source = s(&json);
    let said = |expected: &str| {
        let e = widths(source, None).unwrap_err().to_string();
        assert!(e.contains(expected), "{expected}: {e}");
    };
    draw(&at("images/1.png"), 9, 5, None);
    write(&json, annotations(&[("1.png", 9, 5), ("../instances_a.json", 9, 5)]));
    said("expected its image ../instances_a.json in");
    write(&json, annotations(&[("1.png", 5, 9)]));
    said("1.png: expected an image of 5x9 as its annotation says, found one of 9x5");
    write(&json, annotations(&[("1.png", 9, 5)]).replace("file_name", "name"));
    said("expected the \"file_name\" of image 0");
    write(&json, annotations(&[("2.png", 9, 5)]));
    said("expected its image 2.png in a folder called like the split");
    fs::write(at("images/2.png"), "none").unwrap();
    said("2.png: not an image");
}

#[test]
fn images_are_rotated_unless_only_their_own_size_fits() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let json = at("x.json");
    let found = |file: &str, width, height| {
        write(&json, annotations(&[(file, width, height)]));
        let objects = Objects::open(s(&json)).unwrap();
        let files = ImageFiles::find(&objects, s(&json), None).unwrap();
        let image = files.load(0).map_err(|e| e.to_string())?;
        let is_red = |i: usize| image.rgb[3 * i] > 128;
        Ok::<_, String>((image.width, image.height, is_red(0)))
    };
    // A quarter, and a half, which changes no size.
    draw(&at("6.jpg"), 24, 16, Some(6));
    draw(&at("3.jpg"), 24, 16, Some(3));
    assert_eq!(found("6.jpg", 16, 24), Ok((16, 24, false)));
    assert_eq!(found("6.jpg", 24, 16), Ok((24, 16, true)));
    assert_eq!(found("3.jpg", 24, 16), Ok((24, 16, false)));
    let e = found("6.jpg", 24, 24).unwrap_err();
    assert!(
        e.contains("24x24") && e.contains("found one of 16x24 (24x16 before EXIF rotates it)"),
        "{e}"
    );
    // The same of label images.
    draw(&at("images/a.jpg"), 24, 16, Some(6));
    for (width, height, red) in [(24, 16, true), (16, 24, false)] {
        let mask = image::GrayImage::new(width, height);
        fs::create_dir_all(at("masks")).unwrap();
        mask.save(at("masks/a.png")).unwrap();
        let (image, labels) = LabelImages::open(s(dir.path()), 255).unwrap().load(0).unwrap();
        assert_eq!((image.width, image.height), (labels.width, labels.height));
        assert_eq!(image.rgb[0] > 128, red);
    }
    image::GrayImage::new(9, 9).save(at("masks/a.png")).unwrap();
    let e = LabelImages::open(s(dir.path()), 255).unwrap().load(0).unwrap_err().to_string();
    assert!(e.contains("a.jpg: expected an image of 9x9"), "{e}");
}

/// All files of a folder, and their bytes.
fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = vec![];
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(contents(&path)),
            false => found.push((s(&path).to_owned(), fs::read(&path).unwrap())),
        }
    }
    found.sort();
    found
}

#[test]
fn shapes_are_read_as_objects_label_images_and_images() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let draw = |code: i32, out: &Path, more: &[&str]| {
        let words = ["data", "shapes", "--out", s(out), "--images", "30", "--test", "5"];
        expect(code, &[&words[..], &["--side", "48"], more].concat())
    };
    let out = at("new/set");
    let text = draw(0, &out, &[]).0;
    let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
    assert!(
        text.contains("images of 48x48") && rows.contains(&vec!["images", "30", "5"]),
        "{text}"
    );
    for (split, count) in [("train", 30), ("test", 5)] {
        let source = format!("{}#{split}", s(&out));
        let objects = Objects::open(&source).unwrap();
        let names: Vec<&str> = objects.categories.iter().map(|c| c.name.as_str()).collect();
        assert_eq!((objects.images.len(), names), (count, vec!["circle", "square", "triangle"]));
        let files = ImageFiles::find(&objects, &source, None).unwrap();
        let labels = LabelImages::open(&source, 255).unwrap();
        assert_eq!((files.len(), labels.len()), (count, count));
        let classes = ["background", "circle", "square", "triangle"];
        assert_eq!(labels.names().unwrap(), classes);
        assert_eq!(Dataset::open(&[source]).unwrap().len(), count);
        for (i, numbers) in objects.by_image().iter().enumerate() {
            let (image, labels) = labels.load(i).unwrap();
            assert_eq!(files.load(i).unwrap(), image);
            let covered = numbers.iter().map(|&n| objects.objects[n].mask.as_ref().unwrap().area());
            let drawn = labels.labels.iter().filter(|label| **label > 0).count();
            assert_eq!(covered.sum::<u64>(), drawn as u64);
        }
        // Both kinds of masks are there.
        let polygons = objects.objects.iter().filter(|o| !o.polygons.is_empty()).count();
        assert!(count < 10 || (polygons > 20 && polygons < objects.objects.len() - 5));
    }
    let refused = draw(2, &out, &[]).1;
    assert!(refused.contains("expected a new or an empty folder"), "{refused}");
    let (again, other) = (at("again"), at("other"));
    fs::create_dir(&again).unwrap();
    let json = draw(0, &again, &["--threads", "3", "--json"]).0;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["train"]["images"], &json["test"]["images"]), (&json!(30), &json!(5)));
    draw(0, &other, &["--seed", "1"]);
    let [first, again, other] = [out, again, other].map(|dir| {
        let all = contents(&dir).into_iter();
        all.map(|(path, bytes)| (path.trim_start_matches(s(&dir)).to_owned(), bytes)).collect()
    });
    let (first, again, other): (Vec<_>, Vec<_>, Vec<_>) = (first, again, other);
    assert_eq!(first, again);
    assert_eq!(first.len(), 2 * 35 + 3);
    assert!(first.iter().zip(&other).filter(|(a, b)| a.1 == b.1).count() < 5);
}
