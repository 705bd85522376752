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

/// COCO's annotations of one image of 20×10 pixels.
fn coco(annotations: Value) -> Value {
    json!({
        "images": [{"id": 7, "height": 10, "width": 20}],
        "categories": [{"id": 90, "name": "b"}, {"id": 0, "name": "c"}, {"id": 5, "name": "a"}],
        "annotations": annotations,
    })
}

fn object(more: Value) -> Value {
    let mut object = json!({"id": 0, "image_id": 7, "category_id": 5, "bbox": [1, 2, 10, 5]});
    object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    object
}

#[test]
fn classes_are_found_by_their_ids_whatever_these_are() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("truth.json"), dir.path().join("found.json"));
    // Ids 0 and the same ones twice; a region of many as 1, true, and not at all.
    let annotations = json!([
        object(json!({"category_id": 5, "iscrowd": false})),
        object(json!({"category_id": 90, "iscrowd": 0, "segmentation": []})),
        object(json!({"category_id": 0, "iscrowd": null, "area": 50, "segmentation": null})),
        object(json!({"category_id": 0, "iscrowd": true, "bbox": [0, 0, 20, 10]})),
    ]);
    write(&data, coco(annotations).to_string());
    let found = |id: i64, score: f64| json!({"image_id": 7.0, "category_id": id, "score": score, "bbox": [1, 2, 10, 5]});
    write(&file, json!([found(90, 0.5), found(0, 0.5), found(5, 0.5), found(0, 0.1)]).to_string());
    let words = ["det", "--detections", s(&file), "--data", s(&data)];
    let all = eval(&words);
    let near_one = json!({"a": 1.0, "b": 1.0, "c": 1.0});
    agree(&json!({"AP": 1, "AR1": 1, "APs": 1, "APm": -1, "per_class": near_one}), &all, "ids");
    let names: Vec<&String> = all["per_class"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["c", "a", "b"], "in the order of their ids");
    let text = expect(0, &[&["eval"], &words[..]].concat()).0;
    assert!(text.starts_with("1 image of"), "{text}");
    assert!(text.contains("all classes        3"), "{text}");
}

#[test]
fn mistakes_in_annotations_are_said_with_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("truth.json"), dir.path().join("found.json"));
    let words = ["det", "--detections", s(&file), "--data", s(&data)];
    write(&file, "[]");
    let runs =
        |size: [u32; 2], counts: Value| json!({"segmentation": {"size": size, "counts": counts}});
    for (annotation, expected) in [
        (object(json!({"category_id": 6})), "annotations[1]: its category_id 6"),
        (object(json!({"image_id": "7"})), "annotations[1]: its image_id 7"),
        (object(json!({"bbox": null})), "annotations[1]: expected a \"bbox\""),
        (object(json!({"bbox": [1, 2]})), "line 1 column"),
        (object(json!({"image_id": 1.5})), "expected an id"),
        (object(json!({"iscrowd": "no"})), "expected 0, 1, false or true"),
        (object(json!({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]})), "found 7 numbers"),
        (object(json!({"segmentation": [[1e9, 2, 3, 4, 5, 6]]})), "found 1000000000"),
        (object(runs([10, 20], json!([100, 99]))), "found a sum of 199"),
        (object(runs([10, 20], json!("!"))), "at character 0"),
        (object(runs([20, 10], json!([200]))), "size 10x20"),
        (object(runs([0, 10], json!([]))), "size 0x10"),
    ] {
        write(&data, coco(json!([object(json!({})), annotation])).to_string());
        let said = refused(&words);
        assert!(said.contains(expected) && said.contains("truth.json"), "{expected}: {said}");
    }
    let mut twice = coco(json!([]));
    twice["categories"][0]["id"] = json!(5);
    for (truth, expected) in [
        ("{\"images\": []}".to_owned(), "missing field `categories`"),
        (twice.to_string(), "two categories have the id 5"),
        ("{\"images\": [".repeat(100_000), "expected COCO's annotations"),
    ] {
        write(&data, truth);
        let said = refused(&words);
        assert!(said.contains(expected), "{expected}: {said}");
    }
    write(&data, "[]");
    let said = refused(&words);
    assert!(said.contains("COCO's JSON, a folder or a tar archive"), "{said}");
}

#[test]
fn mistakes_in_results_are_said_with_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("truth.json"), dir.path().join("found.json"));
    let words = ["det", "--detections", s(&file), "--data", s(&data)];
    write(&data, coco(json!([object(json!({}))])).to_string());
    let good = json!({"image_id": 7, "category_id": 5, "score": 0.5, "bbox": [1, 2, 10, 5]});
    for (key, value, expected) in [
        ("image_id", json!(8), "[1]: expected the image_id"),
        ("category_id", json!("a"), "[1]: expected the category_id"),
        ("bbox", Value::Null, "[1]: expected the keys"),
        ("segmentation", json!([[0, 0, 4, 4, 0, 4]]), "[1]: expected the keys"),
        ("score", json!("high"), "line 1 column"),
    ] {
        let mut bad = good.clone();
        bad[key] = value;
        write(&file, json!([good, bad]).to_string());
        let said = refused(&words);
        assert!(said.contains(expected) && said.contains("found.json"), "{expected}: {said}");
    }
    fs::remove_file(&file).unwrap();
    assert!(refused(&words).contains("found.json"));
    let said = expect(2, &[&["eval"], &words[..], &["--metric", "voc08"]].concat()).1;
    assert!(said.contains("voc07"), "{said}");
}

const XML: &str = "<annotation><size><width>20</width><height>10</height></size>
<object><name>dog</name><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>11</xmax><ymax>7</ymax></bndbox>
<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>
</object><object><difficult>1</difficult><name>dog</name>
<bndbox><xmin>1.5</xmin><ymin>1</ymin><xmax>1.5</xmax><ymax>9</ymax></bndbox></object></annotation>";

fn voc(dir: &Path) -> std::path::PathBuf {
    let root = dir.join("VOC");
    write(&root.join("Annotations/000012.xml"), XML);
    write(&root.join("Annotations/000099.xml"), XML.replace("dog", "cat"));
    write(&root.join("ImageSets/Main/test.txt"), "000012  1\n");
    root
}

#[test]
fn pascal_voc_is_read_with_its_lists() {
    let dir = tempfile::tempdir().unwrap();
    let (root, file) = (voc(dir.path()), dir.path().join("found.json"));
    let mut tar = tar::Builder::new(fs::File::create(dir.path().join("voc.tar")).unwrap());
    tar.append_dir_all("./VOC", &root).unwrap();
    tar.into_inner().unwrap();
    let found = |image: Value, class: Value| {
        // xmin and ymin counted from 0; the end is that of the last pixel.
        json!([{"image_id": image, "category_id": class, "score": 1, "bbox": [1, 2, 10, 5]}])
    };
    for source in ["VOC#test", "voc.tar#test"] {
        let data = dir.path().join(source);
        let words = ["det", "--detections", s(&file), "--data", s(&data), "--metric", "voc12"];
        for (image, class) in
            [(json!("000012"), json!("dog")), (json!(12), json!(2)), (json!("000012"), json!(2))]
        {
            write(&file, found(image, class).to_string());
            // Its classes are those of all lists; one without objects counts as 0.
            let expected = json!({"AP": 0.5, "AP75": 0.5, "per_class": {"dog": 1, "cat": 0}});
            agree(&expected, &eval(&words), source);
        }
        write(&file, found(json!("000099"), json!("dog")).to_string());
        assert!(refused(&words).contains("expected the image_id"));
    }
    let all = dir.path().join("VOC");
    let words = ["det", "--detections", s(&file), "--data", s(&all)];
    assert_eq!(eval(&words)["per_class"], json!({"cat": 0.0, "dog": 0.0}));
    let said = refused(&[&words[..4], &[&format!("{}#tset", s(&all))]].concat());
    assert!(said.contains("did you mean \"test\""), "{said}");
    for (xml, expected) in [
        (
            XML.replace("<xmax>11</xmax>", "<xmax>many</xmax>"),
            "line 2: expected <object> with a number",
        ),
        (XML.replace("<name>dog</name>", ""), "line 2: expected <object> with a <name>"),
        (XML.replace("annotation>", "image>"), "not <annotation>"),
        (XML.replace("</part>", ""), "expected XML of Pascal VOC"),
        (format!("<!DOCTYPE a [<!ENTITY b \"c\">]>{XML}"), "expected XML of Pascal VOC"),
        ("<a>".repeat(200_000), "expected XML of Pascal VOC"),
    ] {
        write(&root.join("Annotations/000012.xml"), xml);
        let said = refused(&words);
        assert!(said.contains(expected) && said.contains("000012.xml"), "{expected}: {said}");
    }
}

/// A PNG of one channel.
fn labels(path: &Path, width: u32, bits: png::BitDepth, palette: bool, packed: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let row = (width as usize * bits as usize).div_ceil(8);
    let height = (packed.len() / row) as u32;
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), width, height);
    encoder.set_depth(bits);
    encoder.set_color(if palette { png::ColorType::Indexed } else { png::ColorType::Grayscale });
    if palette {
        encoder.set_palette(vec![200; 3 << (bits as usize)]);
    }
    encoder.write_header().unwrap().write_image_data(packed).unwrap();
}

const EIGHT: png::BitDepth = png::BitDepth::Eight;

#[test]
fn label_images_of_every_layout_are_paired() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let masks = at("predicted");
    let seg = |data: &str| eval(&["seg", "--masks", s(&masks), "--data", s(&at(data))]);
    labels(&masks.join("a.png"), 2, EIGHT, false, &[0, 1, 1, 9]);
    // Folders called images and masks; palette indices of four and of one bit.
    write(&at("plain/images/a.jpg"), "");
    labels(&at("plain/masks/a.png"), 2, png::BitDepth::Four, true, &[0x01, 0x0f]);
    let all = eval(&["seg", "--masks", s(&masks), "--data", s(&at("plain")), "--ignore", "15"]);
    let expected = json!({"per_class": {"0": 0.5, "1": 0.5}, "miou": 0.5, "macc": 0.75});
    agree(&expected, &all, "plain");
    agree(&json!({"aacc": 2.0 / 3.0}), &all, "plain");
    write(&at("plain/classes.txt"), "grass\nstone\nwood\n");
    labels(&at("plain/masks/a.png"), 2, png::BitDepth::One, false, &[0x40, 0x40]);
    let said = refused(&["seg", "--masks", s(&masks), "--data", s(&at("plain"))]);
    assert!(said.contains("found 9 at column 1, row 1") && said.contains("0 to 2"), "{said}");
    labels(&masks.join("a.png"), 2, EIGHT, true, &[0, 1, 0, 1]);
    let expected = json!({"per_class": {"grass": 1, "stone": 1, "wood": -1}, "miou": 1});
    agree(&expected, &seg("plain"), "classes.txt");
    // Cityscapes: labels 7 and 8 are classes 0 and 1, 3 is none.
    let city = "city/gtFine/val/ulm/a_gtFine_labelIds.png";
    write(&at("city/leftImg8bit/val/ulm/a_leftImg8bit.png"), "");
    labels(&at(city), 2, EIGHT, false, &[7, 8, 3, 8]);
    agree(&json!({"miou": 1, "per_class": {"road": 1, "sky": -1}}), &seg("city#val"), "city");
    agree(&json!({"miou": 1}), &seg("city"), "its only split");
    // CamVid: 11 is no class.
    write(&at("cam/val/a.png"), "");
    labels(&at("cam/valannot/a.png"), 2, EIGHT, false, &[0, 1, 11, 2]);
    agree(&json!({"miou": 0.5, "per_class": {"sky": 1, "pole": 0}}), &seg("cam#val"), "cam");
    // Pascal VOC: those of a list.
    write(&at("voc/JPEGImages/a.jpg"), "");
    write(&at("voc/JPEGImages/b.jpg"), "");
    write(&at("voc/ImageSets/Segmentation/val.txt"), "a\n");
    labels(&at("voc/SegmentationClass/a.png"), 2, EIGHT, true, &[0, 1, 255, 255]);
    let expected = json!({"miou": 1, "per_class": {"background": 1, "aeroplane": 1, "cat": -1}});
    agree(&expected, &seg("voc#val"), "voc");
}

#[test]
fn mistakes_in_label_images_are_said_with_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (masks, data) = (at("predicted"), at("data"));
    let words = ["seg", "--masks", s(&masks), "--data", s(&data)];
    let said = |expected: &str| {
        let said = refused(&words);
        assert!(said.contains(expected), "{expected}: {said}");
    };
    said("expected a folder or a tar archive");
    write(&data.join("other/a.png"), "");
    said("expected a folder masks/");
    labels(&data.join("masks/a.png"), 2, EIGHT, false, &[0, 1]);
    write(&masks.join("b.png"), "");
    said("expected the image of a");
    write(&data.join("images/a.png"), "");
    said("expected the prediction a.png");
    write(&masks.join("a.png"), "no image");
    said("a.png: expected a label image, a PNG");
    labels(&masks.join("a.png"), 1, EIGHT, false, &[0, 1]);
    said("a.png: expected 2x1 pixels");
    image::RgbImage::new(2, 1).save(masks.join("a.png")).unwrap();
    said("one channel of at most 8 bits");
    write(&data.join("classes.txt"), "same\nsame\n");
    said("classes.txt: expected 1 to 255 different names");
    write(&data.join("classes.txt"), "only\n");
    said("expected labels of 1 classes, 0 to 0, found 1 at column 1, row 0");
    write(&data.join("images/c.jpg"), "");
    said("expected the label image of c");
}
