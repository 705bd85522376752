//! Images as people have them, from the file to labels in an evaluation: each kind is checked,
//! trained on for two steps, evaluated, and read in the same order by any number of threads.

mod common;

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::runs::train;
use common::{expect, images, s};
use engine::data::{Dataset, Images, LoaderOptions, TrainLoader};
use image::{ImageFormat, RgbImage};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::Value;

const CLASSES: usize = 3;
const EACH: usize = 8;

/// Images with their classes, in an order in which classes take turns.
fn pictures(dir: &Path) -> Vec<(usize, RgbImage)> {
    let root = images(dir, CLASSES, EACH);
    let mut all = Vec::new();
    for i in 0..EACH {
        for class in 0..CLASSES {
            let path = root.join(format!("class{class}/{i:04}.png"));
            all.push((class, image::open(path).unwrap().into_rgb8()));
        }
    }
    all
}

fn encoded(image: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// That a path holds the images, as `kind`, with as many labels of each class; that it can be
/// trained on; that labels reach an evaluation.
fn whole(dir: &Path, path: &str, kind: (&str, u64), from: Option<&str>) {
    let (out, _) = expect(0, &["data", "check", path, "--json"]);
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(found["kinds"][kind.0], kind.1, "{found:#}");
    assert_eq!(found["images"], CLASSES * EACH, "{found:#}");
    assert_eq!(found["readable"], CLASSES * EACH, "{found:#}");
    let counts: Vec<u64> = found["classes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|class| class["images"].as_u64().unwrap())
        .collect();
    assert_eq!(counts, [EACH as u64; CLASSES], "{found:#}");
    let labels = found["labels_from"].as_array().unwrap();
    match from {
        Some(from) => assert!(labels[0].as_str().unwrap().contains(from), "{labels:?}"),
        None => assert!(labels.is_empty(), "{labels:?}"),
    }
    let run = dir.join("run");
    let more = ["--max-steps", "2", "--quiet", "--overwrite"];
    expect(0, &train(Path::new(path), &run, &more));
    let knn = ["eval", "knn", "--ckpt", s(&run), "--arch", "min", "--data", path];
    let result = json(&[&knn[..], &["--test-data", path]].concat());
    let guessing = result["baselines"]["guessing"]["largest_class"].as_f64().unwrap();
    assert!((guessing - 1.0 / 3.0).abs() < 1e-6, "{result:#}");
    let open = || Dataset::open(&[path.to_owned()]).unwrap();
    let (a, b) = (open(), open());
    assert_eq!(a.digest().unwrap(), b.digest().unwrap());
    assert!((0..a.len()).all(|i| a.name(i) == b.name(i) && a.label(i) == b.label(i)));
    same_with_any_threads(dir, path, &run);
}

/// Names, labels, pixels and embeddings, and what a run gets for training, are the same with one
/// thread, two and three.
fn same_with_any_threads(dir: &Path, path: &str, run: &Path) {
    let embedded = |threads: &str| {
        let file = dir.join(format!("{threads}.safetensors"));
        let more = ["--threads", threads, "--out", s(&file), "--overwrite", "--quiet"];
        let embed = ["embed", "--ckpt", s(run), "--arch", "min", "--features", "x,z"];
        expect(0, &[&embed[..], &["--data", path], &more].concat());
        fs::read(file).unwrap()
    };
    let trained_on = |workers: usize| {
        let set = Arc::new(Dataset::open(&[path.to_owned()]).unwrap());
        let options = LoaderOptions { labels: true, ..LoaderOptions::moco_v2(16, 7, workers) };
        let mut loader = TrainLoader::new(set, options).unwrap();
        let next = |_| {
            let batch = loader.next().unwrap();
            let Images::Views(views) = batch.views else { panic!("expected views") };
            let pixels: Vec<Vec<f32>> = views.iter().map(|view| view.to_vec()).collect();
            (batch.indices, batch.targets, pixels)
        };
        (0..6).map(next).collect::<Vec<_>>()
    };
    let (files, batches) = (embedded("1"), trained_on(1));
    for (threads, workers) in [("2", 2), ("3", 3)] {
        assert!(embedded(threads) == files, "{path}: {threads} threads");
        assert!(trained_on(workers) == batches, "{path}: {workers} workers");
    }
}

#[test]
fn folders_archives_and_packed_files() {
    let dir = tempfile::tempdir().unwrap();
    pictures(dir.path());
    let folder = dir.path().join("images");
    whole(dir.path(), s(&folder), ("folder", 1), None);
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_dir_all("images", &folder).unwrap();
    let tar = tar.into_inner().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let zstd = zstd::encode_all(&tar[..], 1).unwrap();
    for (name, bytes) in [("a.tar", tar), ("a.tar.gz", gzip.finish().unwrap()), ("a.tar.zst", zstd)]
    {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        whole(dir.path(), s(&path), ("tar archive", 1), None);
    }
    let packed = [1, 2, 3].map(|threads: u32| {
        let path = dir.path().join(format!("{threads}.pack"));
        let pack = ["data", "pack", s(&folder), "--out", s(&path), "--quiet", "--threads"];
        expect(0, &[&pack[..], &[&threads.to_string()]].concat());
        path
    });
    let [one, two, three] = packed.each_ref().map(|path| fs::read(path).unwrap());
    assert!(one == two && one == three);
    whole(dir.path(), s(&packed[0]), ("packed file", 1), None);
}

#[test]
fn cifar() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("cifar");
    fs::create_dir(&folder).unwrap();
    for (i, part) in pictures(dir.path()).chunks(10).enumerate() {
        let record = |(class, image): &(usize, RgbImage)| -> Vec<u8> {
            let plane = |c: usize| image.pixels().map(move |p| p.0[c]);
            std::iter::once(*class as u8).chain((0..3).flat_map(plane)).collect()
        };
        let records: Vec<u8> = part.iter().flat_map(record).collect();
        fs::write(folder.join(format!("data_batch_{}.bin", i + 1)), records).unwrap();
    }
    whole(dir.path(), s(&folder), ("CIFAR file", 3), None);
}

#[test]
fn idx() {
    let dir = tempfile::tempdir().unwrap();
    let all = pictures(dir.path());
    let folder = dir.path().join("mnist");
    fs::create_dir(&folder).unwrap();
    let header = |kind: u8, numbers: &[u32]| -> Vec<u8> {
        [0, 0, 8, kind].into_iter().chain(numbers.iter().flat_map(|n| n.to_be_bytes())).collect()
    };
    let (mut planes, mut labels) =
        (header(3, &[all.len() as u32, 32, 32]), header(1, &[all.len() as u32]));
    for (class, image) in &all {
        planes.extend(image.pixels().map(|p| p.0[0]));
        labels.push(*class as u8);
    }
    for (name, bytes) in
        [("train-images-idx3-ubyte.gz", &planes), ("train-labels-idx1-ubyte.gz", &labels)]
    {
        let file = fs::File::create(folder.join(name)).unwrap();
        let mut file = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        file.write_all(bytes).unwrap();
        file.finish().unwrap();
    }
    let path = format!("{}#train", folder.display());
    whole(dir.path(), &path, ("IDX file", 1), Some("train-labels-idx1-ubyte.gz"));
}

#[test]
fn tiff_in_class_folders() {
    let dir = tempfile::tempdir().unwrap();
    for (i, (class, image)) in pictures(dir.path()).iter().enumerate() {
        let folder = dir.path().join(format!("tiff/{class}"));
        fs::create_dir_all(&folder).unwrap();
        let file = fs::File::create(folder.join(format!("{i}.tif"))).unwrap();
        let deep: Vec<u16> = image.as_raw().iter().map(|v| u16::from(*v) * 257).collect();
        tiff::encoder::TiffEncoder::new(file)
            .unwrap()
            .write_image::<tiff::encoder::colortype::RGB16>(32, 32, &deep)
            .unwrap();
    }
    let path = dir.path().join("tiff");
    whole(dir.path(), s(&path), ("folder", 1), None);
    let (out, _) = expect(0, &["data", "check", s(&path), "--json"]);
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&found["formats"]["tiff"], &found["sixteen_bit"]), (&24.into(), &24.into()));
}

#[test]
fn shards_of_webdataset() {
    let dir = tempfile::tempdir().unwrap();
    for (shard, part) in pictures(dir.path()).chunks(10).enumerate() {
        let file = fs::File::create(dir.path().join(format!("s-{shard:06}.tar"))).unwrap();
        let mut tar = tar::Builder::new(file);
        for (i, (class, image)) in part.iter().enumerate() {
            let json = format!("{{\"label\": \"c{class}\", \"width\": 32}}");
            let webp = encoded(image, ImageFormat::WebP);
            for (ending, bytes) in [("json", json.as_bytes()), ("webp", &webp)] {
                let mut header = tar::Header::new_ustar();
                header.set_size(bytes.len() as u64);
                header.set_mode(0o644);
                tar.append_data(&mut header, format!("{i:04}.{ending}"), bytes).unwrap();
            }
        }
        tar.finish().unwrap();
    }
    let path = dir.path().join("s-{000000..000002}.tar");
    whole(dir.path(), s(&path), ("tar archive", 3), Some("s-000000.tar"));
}

/// A file as `datasets` writes them.
fn write_parquet(path: &Path, rows: &[(usize, RgbImage)]) {
    let schema = "message schema {
        optional group image { optional binary bytes; optional binary path (UTF8); }
        optional int64 label;
    }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties =
        WriterProperties::builder().set_compression(parquet::basic::Compression::SNAPPY).build();
    let file = fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let bytes: Vec<ByteArray> =
        rows.iter().map(|(_, image)| encoded(image, ImageFormat::Png).into()).collect();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&bytes, Some(&vec![2; rows.len()]), None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&[], Some(&vec![1; rows.len()]), None).unwrap();
    column.close().unwrap();
    let labels: Vec<i64> = rows.iter().map(|(class, _)| *class as i64).collect();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int64Type>().write_batch(&labels, Some(&vec![1; rows.len()]), None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
}

#[test]
fn parquet_files() {
    let dir = tempfile::tempdir().unwrap();
    let all = pictures(dir.path());
    let folder = dir.path().join("hub/data");
    fs::create_dir_all(&folder).unwrap();
    for (i, part) in all.chunks(12).enumerate() {
        write_parquet(&folder.join(format!("train-{i:05}-of-00002.parquet")), part);
    }
    let path = format!("{}#data/train", dir.path().join("hub").display());
    whole(dir.path(), &path, ("Parquet file", 2), Some("column label"));
}

#[test]
fn tables_and_lists() {
    let dir = tempfile::tempdir().unwrap();
    let flat = dir.path().join("flat");
    fs::create_dir(&flat).unwrap();
    let (mut table, mut list) = ("file_name,label\n".to_owned(), String::new());
    for (i, (class, image)) in pictures(dir.path()).iter().enumerate() {
        image.save(flat.join(format!("{i}.png"))).unwrap();
        table += &format!("{i}.png,\"c, {class}\"\n");
        list += &format!("flat/{i}.png,{class}\n");
    }
    fs::write(dir.path().join("list.txt"), list).unwrap();
    whole(dir.path(), s(&dir.path().join("list.txt")), ("list", 1), Some("list.txt"));
    fs::write(flat.join("metadata.csv"), &table).unwrap();
    whole(dir.path(), s(&flat), ("folder", 1), Some("metadata.csv"));
    fs::rename(flat.join("metadata.csv"), dir.path().join("flat.csv")).unwrap();
    whole(dir.path(), s(&dir.path().join("flat.csv")), ("list", 1), Some("flat.csv"));
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&expect(0, &[args, &["--json"]].concat()).0).unwrap()
}

#[test]
fn check_finds_repetitions_and_writes_a_sheet() {
    let dir = tempfile::tempdir().unwrap();
    let root = images(dir.path(), 3, 6);
    let test: PathBuf = dir.path().join("test");
    fs::create_dir_all(test.join("class0")).unwrap();
    fs::copy(root.join("class0/0001.png"), test.join("class0/x.png")).unwrap();
    fs::copy(root.join("class0/0000.png"), root.join("class2/copy.png")).unwrap();
    let other = image::open(root.join("class1/0002.png")).unwrap();
    other.brighten(2).save(test.join("class0/y.png")).unwrap();
    fs::create_dir(root.join("class9")).unwrap();
    let sheet = dir.path().join("sheet.png");
    let args = ["data", "check", s(&root), "--test-data", s(&test), "--sheet", s(&sheet)];
    let found = json(&args);
    assert_eq!((&found["repeats"]["same"], &found["read"]), (&1.into(), &19.into()));
    assert_eq!(found["repeats"]["same_in_another_class"], 1);
    assert_eq!(found["empty_folders"], 1);
    let repeats = &found["test"]["repeats_of_train"];
    assert_eq!((&repeats["same"], &repeats["nearly"]), (&1.into(), &1.into()), "{repeats:#}");
    assert_eq!(found["sheet"]["rows"], serde_json::json!(["class0", "class1", "class2"]));
    let image = image::open(&sheet).unwrap();
    assert_eq!((image.width(), image.height()), (7 * 72, 3 * 72));
    expect(2, &args);
    let (text, _) = expect(0, &[&args[..], &["--overwrite"]].concat());
    for words in
        ["class0/0000.png = class2/copy.png", "class0/0001.png = class0/x.png", "folders' names"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn split_keeps_shares_of_classes_and_copies_together() {
    let dir = tempfile::tempdir().unwrap();
    let root = images(dir.path(), 3, 20);
    fs::copy(root.join("class0/0000.png"), root.join("class0/copy.png")).unwrap();
    let out = dir.path().join("parts");
    let args = ["data", "split", s(&root), "--out", s(&out), "--test", "0.2"];
    let made = json(&args);
    assert_eq!(made["classes"]["class1"], serde_json::json!({"train": 16, "test": 4}));
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    let (train, test) = (read("train.txt"), read("test.txt"));
    assert_eq!(train.lines().count() + test.lines().count(), 61);
    let both = |list: &str| (list.contains("class0/0000.png"), list.contains("class0/copy.png"));
    assert!(matches!(
        (both(&train), both(&test)),
        ((true, true), (false, false)) | ((false, false), (true, true))
    ));
    let found = json(&["data", "check", s(&out.join("test.txt"))]);
    assert_eq!(found["classes"].as_array().unwrap().len(), 3);
    // One more image moves at most one other.
    image::RgbImage::new(7, 7).save(root.join("class1/new.png")).unwrap();
    expect(2, &args);
    json(&[&args[..], &["--overwrite"]].concat());
    let moved = read("test.txt").lines().filter(|line| train.contains(line)).count()
        + read("train.txt").lines().filter(|line| test.contains(line)).count();
    assert!(moved <= 1, "{moved}");
    let tar = dir.path().join("x.tar");
    let mut archive = tar::Builder::new(fs::File::create(&tar).unwrap());
    archive.append_dir_all(".", &root).unwrap();
    archive.finish().unwrap();
    let out = dir.path().join("none");
    let (_, said) = expect(3, &["data", "split", s(&tar), "--out", s(&out)]);
    assert!(said.contains("no file of its own"), "{said}");
}

#[test]
fn completions_and_manual_pages() {
    let (script, _) = expect(0, &["completions", "bash"]);
    assert!(script.contains("finetune") && script.contains("--test-data"));
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("man");
    expect(0, &["man", "--out", s(&out)]);
    for page in ["engine.1", "engine-train.1", "engine-data-check.1"] {
        let text = fs::read_to_string(out.join(page)).unwrap();
        assert!(text.starts_with(".ie") || text.contains(".TH"), "{text}");
    }
    expect(2, &["completions", "dos"]);
}
