//! Data as people have it: MNIST's files, TIFF, WebDataset's archives, Parquet, tables of labels.

use std::fs;
use std::io::Write;
use std::path::Path;

use super::super::hostile::{archive, names};
use super::*;

pub(super) fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)).unwrap()
}

fn labels(set: &Dataset) -> Vec<Option<&str>> {
    (0..set.len()).map(|i| set.label(i).map(|label| set.classes()[label].as_str())).collect()
}

/// Where labels came from, without the temporary folder.
fn labels_from(set: &Dataset) -> Vec<&str> {
    set.labels_from().iter().map(|from| from.rsplit('/').next().unwrap()).collect()
}

/// An IDX file of images of 3×2, and that of their labels.
fn idx(count: u32) -> (Vec<u8>, Vec<u8>) {
    let header = |kind: u8, numbers: &[u32]| -> Vec<u8> {
        let numbers = numbers.iter().flat_map(|n| n.to_be_bytes());
        [0, 0, 8, kind].into_iter().chain(numbers).collect()
    };
    let (mut images, mut labels) = (header(3, &[count, 2, 3]), header(1, &[count]));
    images.extend((0..6 * count).map(|i| (i * 7) as u8));
    labels.extend((0..count).map(|i| (10 - i % 11) as u8));
    (images, labels)
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn idx_files_have_their_labels_beside_them() {
    let tree = Tree::new();
    let dir = tree.path("mnist");
    fs::create_dir(&dir).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(dir.join(name), bytes).unwrap();
    let (images, numbers) = idx(4);
    write("train-images-idx3-ubyte", &images);
    write("train-labels-idx1-ubyte", &numbers);
    let (images, numbers) = idx(2);
    write("t10k-images-idx3-ubyte.gz", &gzip(&images));
    write("t10k-labels-idx1-ubyte.gz", &gzip(&numbers));
    let train = tree.open("mnist#train").unwrap();
    assert_eq!(names(&train)[3], "train/train-images-idx3-ubyte/00003");
    assert_eq!(train.classes(), ["7", "8", "9", "10"]);
    assert_eq!(labels(&train), [Some("10"), Some("9"), Some("8"), Some("7")]);
    assert_eq!(labels_from(&train).last(), Some(&"train-labels-idx1-ubyte"));
    let image = train.load(1).unwrap();
    assert_eq!((image.width, image.height, &image.rgb[..6]), (3, 2, &[42, 42, 42, 49, 49, 49][..]));
    let test = tree.open("mnist#test").unwrap();
    assert_eq!((test.len(), labels(&test)), (2, vec![Some("10"), Some("9")]));
    assert_eq!(test.load(1).unwrap(), image);
    let whole = tree.open("mnist").unwrap();
    assert_eq!((whole.len(), whole.other_files()), (6, 0));
    assert_eq!(tree.open("mnist/t10k-images-idx3-ubyte.gz").unwrap().len(), 2);
    let pack = tree.path("x.pack");
    pack::write(&train, &pack, pack::Form::default(), CorruptPolicy::default()).unwrap();
    same(&train, &tree.open("x.pack").unwrap(), "");
    // Without labels there are none; with others it is an error.
    fs::remove_file(dir.join("t10k-labels-idx1-ubyte.gz")).unwrap();
    let test = tree.open("mnist#test").unwrap();
    assert_eq!((test.len(), test.classes().len()), (2, 0));
    write("t10k-labels-idx1-ubyte", &numbers[..9]);
    kind_of(tree.open("mnist#test"), "expected 2 labels");
}

#[test]
fn archives_may_be_compressed_with_gzip() {
    let tree = Tree::new();
    let tar = fs::read(tree.tar("set.tar")).unwrap();
    fs::write(tree.path("set.tar.gz"), gzip(&tar)).unwrap();
    same(&tree.open("set").unwrap(), &tree.open("set.tar.gz").unwrap(), "");
    fs::create_dir(tree.path("shards")).unwrap();
    fs::rename(tree.path("set.tar.gz"), tree.path("shards/a.tgz")).unwrap();
    assert_eq!(tree.open("shards#test").unwrap().len(), 4);
    fs::write(tree.path("notes.gz"), gzip(b"some text")).unwrap();
    kind_of(tree.open("notes.gz"), "is none of");
}

/// What `tests/fixtures/seeds.py` calls an image: red, green and blue at each place.
fn seed_pixel(x: usize, y: usize) -> [u8; 3] {
    [(x * 7) as u8, (y * 9) as u8, (x * y) as u8]
}

#[test]
fn tiff_of_all_kinds_becomes_rgb() {
    let decode = |name: &str| Image::decode(&fixture(&format!("seeds/{name}.tif"))).unwrap();
    let expect = |name: &str, of: &dyn Fn([u8; 3]) -> [u8; 3], most: u8| {
        let image = decode(name);
        assert_eq!((image.width, image.height), (37, 26), "{name}");
        for (i, pixel) in image.rgb.chunks_exact(3).enumerate() {
            let expected = of(seed_pixel(i % 37, i / 37));
            let apart = (0..3).map(|c| pixel[c].abs_diff(expected[c])).max().unwrap();
            assert!(apart <= most, "{name} at {i}: {pixel:?}, expected {expected:?}");
        }
    };
    for name in ["lzw", "pages", "tiled", "planes", "big", "alpha", "cmyk"] {
        expect(name, &|pixel| pixel, 0);
    }
    for name in ["big-endian", "white-is-zero"] {
        expect(name, &|[_, g, _]| [g; 3], 0);
    }
    // A palette of 6×6×6 colours, and black and white, both dithered.
    let web = decode("palette");
    assert!(web.rgb.iter().all(|v| v % 51 == 0), "{:?}", &web.rgb[..12]);
    let mean = |image: &Image| {
        image.rgb.iter().map(|v| f64::from(*v)).sum::<f64>() / image.rgb.len() as f64
    };
    assert!((mean(&web) - mean(&decode("lzw"))).abs() < 8.0);
    let two = decode("group4");
    assert!(two.rgb.iter().all(|v| [0, 255].contains(v)));
    assert!((mean(&two) - mean(&decode("big-endian"))).abs() < 8.0);
    let turned = decode("turned");
    assert_eq!((turned.width, turned.height), (26, 37));
    assert_eq!(turned.rgb[3 * 25..3 * 26], seed_pixel(0, 0));
    let header = |name: &str| {
        let bytes = fixture(&format!("seeds/{name}.tif"));
        let format = Format::sniff(&bytes).unwrap();
        (format, format.is_sixteen_bit(&bytes), format.has_further_pages(&bytes))
    };
    assert_eq!(header("pages"), (Format::Tiff, false, true));
    assert_eq!(header("tiled"), (Format::Tiff, true, false));
    assert_eq!(header("big"), (Format::Tiff, false, false));
    kind_of(Image::decode(&fixture("refused/bands.tif")), "num_samples: 6");
}

#[test]
fn every_cut_of_a_tiff_is_an_error_or_an_image() {
    for name in ["lzw", "palette", "big"] {
        let whole = fixture(&format!("seeds/{name}.tif"));
        for cut in 0..whole.len() {
            if let Ok(image) = Image::decode(&whole[..cut]) {
                assert_eq!(image.rgb.len(), 3 * image.width * image.height);
            }
        }
    }
}

#[test]
fn samples_of_webdataset_have_labels_and_an_order() {
    let tree = Tree::new();
    let of = |i| png(10 + i, 8, i);
    let (one, two, three, four) = (of(1), of(2), of(3), of(4));
    let files: &[(&str, &[u8])] = &[
        ("b/0002.png", &two),
        ("b/0002.cls", b"dog\n"),
        ("b/0002.json", br#"{"label": "cat"}"#),
        ("b/0002.seg.png", &four),
        ("a/0001.txt", b"a caption"),
        ("a/0001.png", &one),
        ("a/0001.json", br#"{"width": 11, "label": "cat"}"#),
        ("a/0001.jpg", &four),
        ("c/0003.json", br#"{"width": 11}"#),
        ("c/0003.png", &three),
    ];
    archive(&tree.path("s.tar"), files, &[]);
    let set = tree.open("s.tar").unwrap();
    assert_eq!(names(&set), ["b/0002.png", "a/0001.png", "c/0003.png"]);
    assert_eq!(labels(&set), [Some("dog"), Some("cat"), None]);
    assert_eq!((set.load(0).unwrap().width, set.load(1).unwrap().width), (12, 11));
    // The caption, the JSON without a label, the second images of two samples.
    assert_eq!((set.other_files(), labels_from(&set)), (4, vec!["s.tar: .cls and .json files"]));
    fs::write(
        tree.path("s.tar.zst"),
        zstd::encode_all(&fs::read(tree.path("s.tar")).unwrap()[..], 1).unwrap(),
    )
    .unwrap();
    same(&set, &tree.open("s.tar.zst").unwrap(), "");
    // Without labels, folders are classes, in the order of names.
    archive(&tree.path("t.tar"), &[files[0], files[4], files[5], files[8]], &[]);
    let set = tree.open("t.tar").unwrap();
    assert_eq!(
        (names(&set), set.classes().len()),
        (vec!["a/0001.png".into(), "b/0002.png".into()], 2)
    );
    assert_eq!(set.other_files(), 2);
}

#[test]
fn braces_name_a_range_of_shards() {
    let tree = Tree::new();
    let one = png(9, 9, 1);
    for i in 8..=11 {
        let class = format!("{}", i % 2);
        let files: &[(&str, &[u8])] = &[("x.png", &one), ("x.cls", class.as_bytes())];
        archive(&tree.path(&format!("s-{i:04}.tar")), files, &[]);
    }
    let set = tree.open("s-{0008..0011}.tar").unwrap();
    assert_eq!(labels(&set), [Some("0"), Some("1"), Some("0"), Some("1")]);
    kind_of(tree.open("s-{0008..0012}.tar"), "s-0012.tar");
    kind_of(tree.open("s-{0012..0008}.tar"), "cannot read");
    kind_of(tree.open("s-{0..99999999}.tar"), "s-0.tar");
}

#[test]
fn rows_of_parquet_are_images_with_labels() {
    let tree = Tree::new();
    fs::create_dir(tree.path("data")).unwrap();
    let write = |name: &str, from: &str| {
        fs::write(tree.path(name), fixture(&format!("seeds/{from}.parquet"))).unwrap();
    };
    write("data/train-00000-of-00002.parquet", "snappy");
    write("data/train-00001-of-00002.parquet", "zstd");
    write("data/test-00000-of-00001.parquet", "plain");
    let train = tree.open("data#train").unwrap();
    assert_eq!(names(&train)[5], "train/train-00000-of-00002.parquet/00005");
    let once = [Some("eel"), Some("cat"), Some("dog"), Some("eel"), Some("cat"), None];
    assert_eq!(labels(&train), [once, once].concat());
    assert_eq!(labels_from(&train)[0], "train-00000-of-00002.parquet: column label");
    for i in 0..6 {
        let image = train.load(i).unwrap();
        assert_eq!((image.width, image.height), (12 + i, 9));
        assert_eq!(image.rgb[..3], [(40 * i) as u8, 0, (40 * i) as u8]);
        assert_eq!(image, train.load(6 + i).unwrap());
    }
    let test = tree.open("data#test").unwrap();
    assert_eq!(labels(&test)[..4], [Some("cat"), Some("dog"), None, Some("cat")]);
    assert_eq!((test.len(), test.load(4).is_ok()), (6, true));
    kind_of(test.load(5), "its row holds no image");
    assert_eq!(tree.open("data").unwrap().len(), 18);
    let digest = train.digest().unwrap();
    assert_ne!(digest, test.digest().unwrap());
    fs::write(tree.path("x.parquet"), fixture("refused/numbers.parquet")).unwrap();
    kind_of(tree.open("x.parquet"), "found the columns x");
    fs::write(tree.path("data/thumb.png"), png(5, 5, 1)).unwrap();
    kind_of(tree.open("data"), "3 archives");
}

#[test]
fn tables_give_labels() {
    let tree = Tree::new();
    let plain = tree.open("set/train").unwrap();
    // By itself, relative to its folder.
    let table = "id,label,path\n1,big,set/train/cat/0.png\n2,,set/train/dog/1.png\n";
    fs::write(tree.path("list.csv"), table).unwrap();
    let set = tree.open("list.csv").unwrap();
    assert_eq!(names(&set), ["set/train/cat/0.png", "set/train/dog/1.png"]);
    assert_eq!((labels(&set)[0], labels_from(&set)), (Some("big"), vec!["list.csv"]));
    // Relative to the folder of its name.
    fs::write(tree.path("set.csv"), "filename,class\ntrain/dog/1.png,x\n").unwrap();
    assert_eq!(labels(&tree.open("set.csv").unwrap()), [Some("x")]);
    fs::write(tree.path("bad.csv"), "a,b\n1,2\n").unwrap();
    kind_of(tree.open("bad.csv"), "expected a first line");
    // In the folder: it takes the place of folders' names.
    let table = "file_name,label\ntrain/cat/0.png,one\ntrain/dog/0.png,two\nnowhere.png,three\n";
    fs::write(tree.path("set/metadata.csv"), table).unwrap();
    for source in ["set#train", "set"] {
        let set = tree.open(source).unwrap();
        assert_eq!(set.classes(), ["one", "two"], "{source}");
        assert_eq!(labels_from(&set), ["metadata.csv"]);
        assert_eq!(labels(&set).iter().flatten().count(), 2);
    }
    let digest = || tree.open("set#train").unwrap().digest().unwrap();
    let before = digest();
    fs::write(tree.path("set/metadata.csv"), table.replace("one", "other")).unwrap();
    assert_ne!(before, digest());
    // Captions are no labels, and other files stay what they were.
    fs::write(tree.path("set/metadata.csv"), "file_name,text\ntrain/cat/0.png,a cat\n").unwrap();
    same(&plain, &tree.open("set#train").unwrap(), "train/");
    fs::rename(tree.path("set/metadata.csv"), tree.path("set/labels.csv")).unwrap();
    kind_of(tree.open("set"), "gives no labels");
}

#[test]
fn lists_have_labels_behind_a_comma() {
    let tree = Tree::new();
    fs::write(tree.path("l.txt"), "set/train/cat/0.png,a b\nset/train/dog/1.png,c\n").unwrap();
    assert_eq!(labels(&tree.open("l.txt").unwrap()), [Some("a b"), Some("c")]);
}

#[test]
fn folders_without_images_are_counted() {
    let tree = Tree::new();
    fs::create_dir_all(tree.path("set/train/eel")).unwrap();
    fs::create_dir_all(tree.path("set/train/fox/deep")).unwrap();
    let set = tree.open("set").unwrap();
    assert_eq!((set.empty_folders(), set.classes().len()), (2, 2));
}
