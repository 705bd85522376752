//! `engine data check` of annotated images.

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use common::{expect, s};
use engine::config::{Recipe, Task, resolve, word};
use engine::data::annotated::transforms::shortest_edge;
use engine::data::survey::objects::Kept;
use engine::finetune::det::recall::AnchorSet;
use engine::geometry::corners::iou;
use engine::geometry::{Anchors, BBox};
use engine::rng::{Philox, Purpose};
use serde_json::{Value, json};

fn write(path: &Path, text: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn draw(path: &Path, width: u32, height: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::RgbImage::new(width, height).save(path).unwrap();
}

/// What it says as JSON, with this exit code.
fn check(code: i32, words: &[&str]) -> Value {
    let (out, _) = expect(code, &[&["data", "check", "--json"], words].concat());
    serde_json::from_str(&out).unwrap()
}

/// The same as text, and its error.
fn said(code: i32, words: &[&str]) -> (String, String) {
    expect(code, &[&["data", "check"], words].concat())
}

/// Each line of `damaged` has one of the `expected` parts, in any order.
fn expect_damaged(damaged: &Value, expected: &[&str]) {
    let lines: Vec<&str> =
        damaged.as_array().unwrap().iter().map(|d| d.as_str().unwrap()).collect();
    for part in expected {
        assert!(lines.iter().any(|line| line.contains(part)), "{part:?} in {lines:#?}");
    }
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
}

#[test]
fn damage_in_coco_is_listed_and_the_rest_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for (name, width, height) in [("1.png", 40, 30), ("2.png", 30, 40), ("5.png", 40, 30)] {
        draw(&at("val").join(name), width, height);
    }
    write(&at("val/4.png"), "no image");
    let image = |id: usize| {
        let file = format!("{id}.png");
        json!({"id": id, "file_name": file, "width": 40, "height": 30})
    };
    let object = |id: Value, image: usize, class: usize, bbox: [f64; 4]| json!({"id": id, "image_id": image, "category_id": class, "bbox": bbox});
    let mut with_mask = object(json!(8), 1, 1, [0.0, 0.0, 4.0, 4.0]);
    with_mask["segmentation"] = json!({"size": [40, 30], "counts": [0, 1200]});
    let mut crowd = object(json!(9), 1, 2, [0.0, 0.0, 40.0, 30.0]);
    crowd["iscrowd"] = json!(1);
    let images: Vec<Value> = (1..=6).map(image).collect();
    let annotations = json!([
        object(json!(1), 1, 1, [2.0, 3.0, 20.0, 10.0]),
        object(json!("b"), 1, 1, [30.0, 20.0, 20.0, 20.0]),
        object(json!(3), 1, 1, [5.0, 5.0, 0.0, 7.0]),
        object(Value::Null, 1, 1, [50.0, 5.0, 3.0, 7.0]),
        object(json!(5), 1, 3, [0.0, 0.0, 4.0, 4.0]),
        object(json!(6), 7, 1, [0.0, 0.0, 4.0, 4.0]),
        with_mask,
        crowd,
        object(json!(10), 5, 2, [0.0, 0.0, 9.0, 9.0]),
    ]);
    let categories = json!([{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]);
    let coco = json!({"images": images, "categories": categories, "annotations": annotations});
    write(&at("annotations/instances_val.json"), coco.to_string());

    let found = check(3, &[&format!("{}#val", s(dir.path()))]);
    assert!(found.get("label_images").is_none(), "{found}");
    let found = &found["objects"];
    let expected = [
        "annotations[4]: its category_id 3 is none of \"categories\"",
        "annotations[5]: its image_id 7 is none of \"images\"",
        "annotations[6]: expected a mask of its image's size",
        "2.png: expected an image of 40x30 as its annotation says, found one of 30x40",
        "expected its image 3.png in",
        "4.png: not an image",
        "expected its image 6.png in",
    ];
    expect_damaged(&found["damaged"], &expected);
    assert_eq!([&found["images"], &found["read"], &found["objects"]], [6, 4, 6]);
    assert_eq!([&found["crowds"], &found["clipped"], &found["most_objects"]], [1, 1, 4]);
    assert_eq!(found["images_without_objects"], 4);
    let dropped = found["dropped"].as_array().unwrap();
    let reasons: Vec<&str> = dropped.iter().map(|d| d["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["a box of 0x7", "outside of its image of 40x30"]);
    let place = dropped[0]["place"].as_str().unwrap();
    assert!(place.ends_with("instances_val.json: annotations[2] (id 3)"), "{place}");
    assert!(dropped[1]["place"].as_str().unwrap().ends_with("annotations[3]"), "{dropped:?}");
    let dog = json!({"class": "dog", "objects": 2, "images": 2, "crowds": 1, "difficult": 0});
    assert_eq!(found["classes"][1], dog);
    // 20x10, 10x10 of 20x20, and 9x9.
    let all = &found["sizes"][3];
    assert_eq!((&all["objects"], &all["shorter_side"]), (&json!(3), &json!([9.0, 10.0, 10.0])));
    assert_eq!(all["aspect"], json!([1.0, 1.0, 2.0]));

    let few = check(3, &[&format!("{}#val", s(dir.path())), "det.top_k=3"]);
    assert_eq!(few["objects"]["images_beyond_top_k"], 1);
    let (text, e) = said(3, &[s(&at("annotations/instances_val.json"))]);
    assert!(e.contains("7 images or annotations are damaged"), "{e}");
    for part in ["damaged: ", "left out ", "(id 3): a box of 0x7, image 1.png", "anchors of"] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    // Images elsewhere; none at all.
    fs::rename(at("val"), at("elsewhere")).unwrap();
    let source = format!("{}#val", s(dir.path()));
    assert!(said(3, &[&source]).1.contains("--images names the folder"));
    let elsewhere = at("elsewhere");
    let moved = check(3, &[&source, "--images", s(&elsewhere)]);
    assert_eq!(moved["objects"]["sizes"], found["sizes"]);
}

#[test]
fn damage_in_pascal_voc_is_listed_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let xml = |objects: &str| {
        format!(
            "<annotation><size><width>20</width><height>10</height></size>\n{objects}</annotation>"
        )
    };
    let object = |name: &str, xmin: i32, xmax: i32| {
        format!(
            "<object>{name}<bndbox><xmin>{xmin}</xmin><ymin>1</ymin><xmax>{xmax}</xmax>\
             <ymax>4</ymax></bndbox><difficult>1</difficult></object>\n"
        )
    };
    let objects = [
        object("<name>cat</name>", 1, 8),
        object("", 1, 8),
        object("<name>cat</name>", 9, 8),
        object("<name>dog</name>", 15, 24),
    ];
    write(&at("Annotations/1.xml"), xml(&objects.concat()));
    write(&at("Annotations/2.xml"), "<annotation>");
    write(&at("Annotations/4.xml"), xml(""));
    write(&at("ImageSets/Main/val.txt"), "1\n3\n4\n");
    draw(&at("JPEGImages/1.jpg"), 20, 10);
    let found = check(3, &[&format!("{}#val", s(dir.path()))]);
    let found = &found["objects"];
    let expected = [
        "1.xml: line 3: expected <object> with a <name>",
        "2.xml: expected XML of Pascal VOC",
        "expected the annotation 3.xml of an image in the list",
        "expected its image 4 in",
    ];
    expect_damaged(&found["damaged"], &expected);
    assert_eq!([&found["images"], &found["objects"], &found["difficult"]], [2, 3, 3]);
    assert_eq!(
        (&found["clipped"], &found["dropped"][0]["reason"]),
        (&json!(1), &json!("a box of 0x4"))
    );
    let place = found["dropped"][0]["place"].as_str().unwrap();
    assert!(place.ends_with("Annotations/1.xml, line 4"), "{place}");
}

#[test]
fn label_images_are_counted_and_their_damage_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let labels = |name: &str, pixels: &[u8]| {
        fs::create_dir_all(at("masks")).unwrap();
        let image = image::GrayImage::from_raw(pixels.len() as u32, 1, pixels.to_vec()).unwrap();
        image.save(at(&format!("masks/{name}.png"))).unwrap();
    };
    for name in ["a", "b", "small", "beyond", "alone", "broken"] {
        draw(&at(&format!("images/{name}.png")), 4, 1);
    }
    labels("a", &[0, 0, 1, 255]);
    labels("b", &[0, 0, 0, 0]);
    labels("small", &[0, 0]);
    labels("beyond", &[0, 7, 0, 0]);
    labels("without", &[0, 0, 0, 0]);
    write(&at("masks/broken.png"), "no image");
    write(&at("classes.txt"), "ground\ncat\ndog\n");
    let found = check(3, &[s(dir.path())]);
    assert!(found.get("objects").is_none(), "{found}");
    let found = &found["label_images"];
    let expected = [
        "expected the image of without, found none",
        "expected the label image of alone, found none",
        "beyond.png: expected labels of 3 classes, 0 to 2, found 7 at column 1, row 0",
        "broken.png: ",
        "small.png: expected an image of 2x1",
    ];
    expect_damaged(&found["damaged"], &expected);
    assert_eq!([&found["images"], &found["pixels"], &found["ignored"]], [5, 8, 1]);
    let ground = json!({"class": "ground", "pixels": 6, "share": 0.75, "images": 2});
    assert_eq!((&found["classes"][0], &found["absent"]), (&ground, &json!(["dog"])));
    let (text, e) = said(3, &["--task", "seg", s(dir.path()), "seg.ignore=1"]);
    assert!(e.contains("5 images or annotations are damaged"), "{e}");
    assert!(text.contains("never occur      cat, dog"), "{text}");
}

/// A folder as an archive, compressed by what the name says.
fn tarred(dir: &Path, name: &str) -> PathBuf {
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_dir_all("./set", dir).unwrap();
    let bytes = tar.into_inner().unwrap();
    let path = dir.with_file_name(name);
    let file = fs::File::create(&path).unwrap();
    if name.ends_with("gz") {
        let mut out = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        out.write_all(&bytes).unwrap();
        out.finish().unwrap();
    } else {
        zstd::stream::copy_encode(&bytes[..], file, 1).unwrap();
    }
    path
}

#[test]
fn annotations_are_found_by_themselves_also_in_compressed_archives() {
    let dir = tempfile::tempdir().unwrap();
    let shapes = dir.path().join("shapes");
    let few = ["--images", "12", "--test", "2", "--side", "64", "--quiet"];
    expect(0, &[&["data", "shapes", "--out", s(&shapes)][..], &few].concat());
    let train = format!("{}#train", s(&shapes));
    let source = |mut found: Value| {
        found["objects"]["source"].take();
        found["label_images"]["source"].take();
        found
    };
    let found = source(check(0, &[&train]));
    assert_eq!([&found["objects"]["images"], &found["label_images"]["images"]], [12, 12]);
    assert_eq!(found["label_images"]["pixels"], 12 * 64 * 64);
    let recall = found["objects"]["anchors"]["recall"].as_array().unwrap();
    assert_eq!(recall[3]["boxes"], found["objects"]["sizes"][3]["objects"]);
    for name in ["set.tar.gz", "set.tar.zst"] {
        let archive = tarred(&shapes, name);
        let again = check(0, &[&format!("{}#train", s(&archive)), "--threads", "2"]);
        assert_eq!(source(again), found, "{name}");
        let bytes = fs::read(&archive).unwrap();
        fs::write(&archive, &bytes[..bytes.len() / 2]).unwrap();
        let e = said(3, &["--task", "seg", &format!("{}#train", s(&archive))]).1;
        assert!(e.contains("as a tar archive") && e.contains("cut short"), "{e}");
    }
    let only = check(0, &["--task", "seg", &train]);
    assert!(only.get("objects").is_none() && only["label_images"]["images"] == 12);
    let det = check(0, &["--recipe", "voc-c4", &train]);
    assert_eq!(det["objects"]["anchors"]["task"], "det-c4");
    // Images alone, as training without labels sees them.
    assert_eq!(check(0, &["--task", "cls", &train])["images"], 12);
    let images = format!("{}#trainannot", s(&shapes));
    assert_eq!(check(0, &[&images])["images"], 12);
    // Several splits, and flags that are for something else.
    assert!(said(3, &[s(&shapes)]).1.contains("name the split"));
    for (words, what) in [
        (&[&*train, "--test-data", &train][..], "--test-data looks at images without"),
        (&[&*images, "--recipe", "small"], "--recipe is for annotated images"),
        (&[&*images, "det.anchor=8"], "det.anchor is for annotated images"),
        (&[&*train, "--task", "seg", "--images", "x"], "--images is for det-c4 and det-fpn"),
        (&[&*train, &*train, "--task", "seg"], "expected one PATH"),
        (&[&*train, "--task", "seg", "--recipe", "coco-fpn"], "is not for --task seg"),
    ] {
        let e = said(2, words).1;
        assert!(e.contains(what), "{what:?} in {e}");
    }
}

/// Anchors of a task on this preset with these settings.
fn anchors(task: Task, words: &[&str]) -> AnchorSet {
    let mut settings = Recipe::Small.settings(task, 1.0).unwrap();
    settings.extend(words.iter().map(|text| word(text).unwrap()));
    AnchorSet::new(&resolve(&settings).unwrap().config, task).unwrap()
}

#[test]
fn recall_is_that_of_all_anchors_one_by_one() {
    let sizes = ["det.short_test=96", "det.long=120"];
    for (task, preset) in
        [(Task::DetFpn, "preset=tiny"), (Task::DetC4, "preset=tiny"), (Task::DetFpn, "preset=data")]
    {
        let set = anchors(task, &[&[preset], &sizes[..]].concat());
        let mut rng = Philox::new(1, Purpose::Check, 0, 0);
        let mut images = Vec::new();
        for size in [[200, 150], [80, 200], [64, 64]] {
            let [width, height] = size.map(|side| side as f32);
            let mut one = |_| {
                let (x, y) = (rng.range(0.0, width - 2.0), rng.range(0.0, height - 2.0));
                let (w, h) = (rng.range(1.0, width - x), rng.range(1.0, height - y));
                let [x, y, w, h] = [x, y, w, h].map(f64::from);
                (BBox { x, y, w, h }, usize::from(w * h > 1024.0))
            };
            images.push(Kept { size: Some(size), boxes: (0..12).map(&mut one).collect() });
        }
        images.push(Kept { size: None, boxes: vec![(BBox::default(), 2)] });
        let mut all = Vec::new();
        for Kept { size, boxes } in &images[..3] {
            let size = size.unwrap();
            let fed = shortest_edge(size, 96, 120);
            // A pyramid's images are padded so that its fourth level has whole pixels.
            let multiple = set.levels().nth(3).map_or(1, |(stride, _)| stride);
            let [height, width] = [fed[1], fed[0]].map(|side| side.next_multiple_of(multiple));
            let levels = set.levels().map(|(stride, sides)| {
                let positions = [height.div_ceil(stride), width.div_ceil(stride)];
                Anchors::new(stride, sides, set.ratios(), positions)
            });
            let levels: Vec<Anchors> = levels.collect();
            for (b, group) in boxes {
                let [sx, sy] = [0, 1].map(|i| fed[i] as f64 / size[i] as f64);
                let b = BBox { x: b.x * sx, y: b.y * sy, w: b.w * sx, h: b.h * sy }.corners();
                let each = levels.iter().flat_map(|l| (0..l.len()).map(move |i| l.get(i)));
                all.push((*group, each.map(|anchor| iou(&b, &anchor)).fold(0.0, f32::max)));
            }
        }
        let recall = set.recall(&images);
        for (group, found) in recall.iter().enumerate() {
            let of_group = |(g, o): &(usize, f32)| (group == 3 || *g == group).then_some(*o);
            let some: Vec<f32> = all.iter().filter_map(of_group).collect();
            let share = |least: f32| {
                let met = some.iter().filter(|overlap| **overlap >= least).count();
                (!some.is_empty()).then(|| met as f64 / some.len() as f64)
            };
            assert_eq!(found.boxes, some.len());
            assert_eq!([found.iou50, found.iou70], [share(0.5), share(0.7)], "{task} {group}");
        }
        assert_eq!((recall[3].boxes, recall[3].none), (36, Some(0.0)));
        assert!(recall[3].iou50 > recall[3].iou70, "{recall:?}");
    }
}

#[test]
fn boxes_that_no_anchor_overlaps_are_counted() {
    let set = anchors(
        Task::DetC4,
        &["preset=data", "det.anchor=1", "det.short_test=512", "det.long=512"],
    );
    let at = |x, y| (BBox { x, y, w: 0.5, h: 0.5 }, 0);
    // Anchors of at most 16 pixels, 16 apart: beside a centre, and beyond all of them.
    let boxes = vec![at(32.0, 48.0), at(600.0, 600.0)];
    let found = set.recall(&[Kept { size: Some([512, 512]), boxes }]);
    assert_eq!((found[0].boxes, found[0].none, found[3].none), (2, Some(0.5), Some(0.5)));
}
