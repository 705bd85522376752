//! Search spaces of a user's own, from a file to a net in another library: basic blocks and grey
//! images, bottlenecks and images of four bands.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::runs::steps_in_metrics;
use common::s;
use safetensors::SafeTensors;
use serde_json::Value;
use tiff::encoder::TiffEncoder;
use tiff::encoder::colortype::{ColorType, Gray16};
use tiff::tags::{PhotometricInterpretation, SampleFormat};

/// What the program prints, on stdout and stderr, where it ends with this code.
fn expect(code: i32, args: &[&str]) -> String {
    let (stdout, stderr) = common::expect(code, args);
    if code == 0 { stdout } else { stdout + &stderr }
}

/// Four channels of 16 bits.
struct Bands;

impl ColorType for Bands {
    type Inner = u16;
    const TIFF_VALUE: PhotometricInterpretation = PhotometricInterpretation::BlackIsZero;
    const BITS_PER_SAMPLE: &'static [u16] = &[16; 4];
    const SAMPLE_FORMAT: &'static [SampleFormat] = &[SampleFormat::Uint; 4];
    fn horizontal_predict(row: &[u16], result: &mut Vec<u16>) {
        let before = [&[0; 4][..], &row[..row.len() - 4]].concat();
        result.extend(row.iter().zip(before).map(|(v, before)| v.wrapping_sub(before)));
    }
}

const SIDE: usize = 20;

/// Stripes along one of two directions, in a twentieth of the range of 16 bits.
fn sample(class: usize, image: usize, i: usize, channel: usize) -> u16 {
    let (x, y) = (i % SIDE, i / SIDE);
    let along = if class == 0 { x } else { y };
    let wave = (along * (2 + image % 3) + 3 * channel) % 12;
    (400 + 200 * wave + 100 * channel + (x * y + image) % 50) as u16
}

/// Twelve images of each of two classes.
fn images(dir: &Path, channels: usize) -> PathBuf {
    let root = dir.join(format!("images{channels}"));
    for (class, i) in (0..24).map(|i| (i % 2, i / 2)) {
        let folder = root.join(["across", "down"][class]);
        fs::create_dir_all(&folder).unwrap();
        let samples: Vec<u16> = (0..SIDE * SIDE)
            .flat_map(|at| (0..channels).map(move |c| sample(class, i, at, c)))
            .collect();
        let file = fs::File::create(folder.join(format!("{i:02}.tif"))).unwrap();
        let mut tiff = TiffEncoder::new(file).unwrap();
        let side = SIDE as u32;
        match channels {
            1 => tiff.write_image::<Gray16>(side, side, &samples).unwrap(),
            _ => tiff.write_image::<Bands>(side, side, &samples).unwrap(),
        }
    }
    root
}

/// A small space for images of so many channels, as `data stats` describes them.
fn space(dir: &Path, data: &Path, channels: usize, block: &str) -> PathBuf {
    let stats = expect(0, &["data", "stats", s(data), "--channels", &channels.to_string()]);
    let (_, lines) = stats.split_once("(docs/spaces.md)\n").expect("lines to paste");
    let stages: String = [(8, 1), (12, 2), (16, 2), (24, 2)]
        .map(|(width, stride)| {
            format!(
                "[[stages]]\nwidths = [{width}, {}]\ndepths = [1, 2]\nstride = {stride}\n",
                width + 4
            )
        })
        .concat();
    let path = dir.join(format!("{block}.toml"));
    let text = format!(
        "name = \"own-{block}\"\nresolution = {SIDE}\nblock = \"{block}\"\n{lines}\n[stem]\nkernel = 3\n\
         stride = 1\nmaxpool = false\nwidths = [4, 6]\n{stages}"
    );
    fs::write(&path, text).unwrap();
    path
}

const SMALL: [&str; 4] = ["train.batch=8", "moco.queue=64", "train.epochs=4", "log.every=1"];

/// All that a user does, from the file on. Gives the export.
fn whole_job(dir: &Path, channels: usize, block: &str) -> PathBuf {
    let data = images(dir, channels);
    let space = space(dir, &data, channels, block);
    let shown: Value =
        serde_json::from_str(&expect(0, &["space", "show", s(&space), "--json"])).unwrap();
    assert_eq!((&shown["channels"], &shown["block"]), (&channels.into(), &block.into()));
    assert_eq!(shown["count"], 2 * 16 * 16);

    // Stopped and gone on with, without the file: the run holds the space.
    let run = dir.join("run");
    let train = ["train", "--data", s(&data), "--out", s(&run), "--quiet"];
    let preset = ["--preset", s(&space)];
    expect(0, &[&train[..], &preset, &SMALL, &["--max-steps", "5"]].concat());
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    let kept = dir.join("kept.toml");
    fs::write(&kept, &config).unwrap();
    fs::rename(&space, dir.join("moved.toml")).unwrap();
    expect(0, &[&train[..], &["-c", s(&kept), "--resume"]].concat());
    assert_eq!(steps_in_metrics(&run).len(), 12);

    let search = ["search", "--ckpt", s(&run), "--data", s(&data), "--task", "cls", "--quiet"];
    let few = ["--images", "16", "--bn-images", "16", "--samples", "4", "--out"];
    let found = run.join("search/own");
    let all =
        expect(0, &["space", "cost", "max", "--preset", s(&dir.join("moved.toml")), "--json"]);
    let most = serde_json::from_str::<Value>(&all).unwrap()["macs"].as_u64().unwrap();
    let budget = format!("{}..{}", most / 4, most);
    expect(0, &[&search[..], &few, &[s(&found), "--budget", &budget]].concat());
    assert!(found.join("report.html").is_file());

    let export = dir.join("export");
    let of = ["export", "--ckpt", s(&run), "--arch", "winner", "--bn-data", s(&data), "--quiet"];
    expect(0, &[&of[..], &["--out", s(&export), "--layout", "torchvision,onnx"]].concat());
    let config: Value =
        serde_json::from_str(&fs::read_to_string(export.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["input_size"], serde_json::json!([channels, SIDE, SIDE]));
    assert_eq!((&config["block"], &config["preset"]["name"]), (&block.into(), &shown["preset"]));
    assert_eq!(config["mean"], shown["mean"]);

    let eval = ["eval", "knn", "--model", s(&export), "--data", s(&data), "--test-data", s(&data)];
    expect(0, &eval);
    let tuned = dir.join("tuned");
    let tune = ["finetune", "--task", "cls", "--model", s(&export), "--data", s(&data)];
    let tune = [&tune[..], &["--val-data", s(&data), "--out", s(&tuned), "--quiet"]].concat();
    expect(0, &[&tune[..], &["finetune.steps=4", "train.batch=8"]].concat());
    expect(0, &["report", s(&run)]);
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    for part in [&*format!("preset own-{block}"), "some of the images, side by side"] {
        assert!(page.contains(part), "no {part}");
    }
    export
}

/// Images as nets see them are their samples, normalised: those of 20×20 pixels are not resized.
fn samples_are_kept(dir: &Path, export: &Path, channels: usize) {
    let (data, file) = (dir.join(format!("images{channels}")), dir.join("x.safetensors"));
    let embed = ["embed", "--model", s(export), "--data", s(&data), "--features", "x,z"];
    expect(0, &[&embed[..], &["--out", s(&file), "--quiet"]].concat());
    let bytes = fs::read(&file).unwrap();
    let meta = SafeTensors::read_metadata(&bytes).unwrap().1.metadata().clone().unwrap();
    let numbers = |key: &str| -> Vec<f64> { serde_json::from_str(&meta[key]).unwrap() };
    let (mean, std) = (numbers("mean"), numbers("std"));
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let x = tensors.tensor("x").unwrap();
    assert_eq!(x.shape(), [24, channels, SIDE, SIDE]);
    let x: Vec<f32> =
        x.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let names: Vec<String> = serde_json::from_str(&meta["files"]).unwrap();
    for (n, name) in names.iter().enumerate() {
        let class = usize::from(name.contains("down"));
        let image: usize = name[name.len() - 6..name.len() - 4].parse().unwrap();
        for c in 0..channels {
            for i in 0..SIDE * SIDE {
                let sample = f64::from(sample(class, image, i, c)) / 65_535.0;
                let expected = (sample - mean[c]) / std[c];
                let found = f64::from(x[(n * channels + c) * SIDE * SIDE + i]);
                assert!((found - expected).abs() < 1e-4, "{name} {c} {i}: {found} {expected}");
            }
        }
    }
}

#[test]
fn basic_blocks_on_grey_images_of_16_bits() {
    let dir = tempfile::tempdir().unwrap();
    let export = whole_job(dir.path(), 1, "basic");
    samples_are_kept(dir.path(), &export, 1);
}

#[test]
fn bottlenecks_on_images_of_four_bands() {
    let dir = tempfile::tempdir().unwrap();
    let export = whole_job(dir.path(), 4, "bottleneck");
    samples_are_kept(dir.path(), &export, 4);
}

#[test]
fn images_of_other_channels_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = images(dir.path(), 4);
    let said = expect(3, &["data", "check", s(&data)]);
    assert!(said.contains("docs/spaces.md"), "{said}");
    let said = expect(3, &["data", "check", s(&data), "--channels", "5"]);
    assert!(said.contains("expected 5 channels, found 4"), "{said}");
    let said = expect(
        3,
        &["train", "--preset", "tiny", "--data", s(&data), "--out", s(&dir.path().join("run"))],
    );
    assert!(said.contains("11 of 24 images cannot be read"), "{said}");
}

#[test]
fn files_that_hold_no_space_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("own.toml");
    let good = "name = \"own\"\nlike = \"tiny\"\n";
    let wrong: BTreeMap<&str, &str> = BTreeMap::from([
        ("name = \"own\"\n", "resolution is missing"),
        ("like = \"tiny\"\n", "name"),
        ("name = \"own\"\nlike = \"tinny\"\n", "\"tiny\""),
        ("name = \"tiny\"\nlike = \"data\"\n", "\"tiny\" is a preset's"),
        ("name = \"a b\"\nlike = \"tiny\"\n", "letters, digits"),
        ("name = \"own\"\nlike = \"tiny\"\nwidths = [3]\n", "unknown field `widths`"),
        ("name = \"own\"\nlike = \"tiny\"\nchannels = 17\n", "1 to 16"),
        ("name = \"own\"\nlike = \"tiny\"\nchannels = 2\n", "--channels 2"),
        ("name = \"own\"\nlike = \"tiny\"\nmean = [1.0, 0.5]\nstd = [1.0]\n", "2 numbers above 0"),
        ("name = \"own\"\nlike = \"tiny\"\nstd = [1.0, 0.0, 1.0]\n", "3 numbers above 0"),
        ("name = \"own\"\nlike = \"tiny\"\nresolution = 4\n", "8 to 1024"),
        ("name = \"own\"\nlike = \"tiny\"\nblock = \"basics\"\n", "\"basic\""),
        ("name = \"own\"\nlike = \"tiny\"\nstages = []\n", "4 of them, found 0"),
        (
            "name = \"own\"\nlike = \"tiny\"\n[stem]\nkernel = 4\nstride = 1\nmaxpool = false\nwidths = [8]\n",
            "1, 3, 5 or 7",
        ),
        (
            "name = \"own\"\nlike = \"tiny\"\n[stem]\nkernel = 3\nstride = 1\nmaxpool = false\nwidths = [8, 8]\n",
            "rising whole numbers",
        ),
        ("name = 3", "string"),
        ("[[[", "TOML parse error"),
    ]);
    for (text, says) in wrong {
        fs::write(&path, text).unwrap();
        let said = expect(2, &["space", "show", s(&path)]);
        assert!(said.contains(says) && said.contains("own.toml"), "{text}: {said}");
    }
    fs::write(&path, good).unwrap();
    expect(0, &["space", "show", s(&path)]);
    let said = expect(2, &["space", "show", "missing.toml"]);
    assert!(said.contains("missing.toml"), "{said}");
    let stem = "[stem]\nkernel = 3\nstride = 1\nmaxpool = false\nwidths = [8]\n";
    fs::write(
        &path,
        format!("name = \"own\"\nlike = \"tiny\"\nchannels = 1\nmean = [0.4]\nstd = [0.2]\n{stem}"),
    )
    .unwrap();
    let said = expect(2, &["config", "show", "--preset", s(&path), "views.hue=0.1"]);
    assert!(said.contains("views.hue") && said.contains("1 channels"), "{said}");
}
