//! IDX files, TIFF, samples, Parquet and tables that are damaged or made to do harm.

use std::fs;
use std::path::Path;

use super::super::hostile::{archive, open_within};
use super::super::limits::{FILE_BYTES, PIXELS, UNPACKED_BYTES};
use super::kinds::gzip;
use super::*;

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/seeds").join(name)).unwrap()
}

#[test]
fn idx_files_that_claim_more_than_they_hold_are_refused() {
    let tree = Tree::new();
    let write = |numbers: [u32; 3], bytes: usize| {
        let mut file = vec![0, 0, 8, 3];
        file.extend(numbers.iter().flat_map(|n| n.to_be_bytes()));
        file.resize(16 + bytes, 7);
        fs::write(tree.path("x-images-idx3-ubyte"), &file).unwrap();
        fs::write(tree.path("y-images-idx3-ubyte.gz"), gzip(&file)).unwrap();
    };
    for (numbers, bytes, words) in [
        ([2, 3, 4], 23, "expected 40 bytes, found 39"),
        ([2, 3, 4], 25, "expected 40 bytes"),
        ([40_000_000, 28, 28], 100, "expected 31360000016 bytes"),
        ([u32::MAX, 28, 28], 100, "ENGINE_MAX_IMAGES"),
        ([1, u32::MAX, u32::MAX], 100, PIXELS),
        ([1, 0, 28], 100, "28x0"),
    ] {
        write(numbers, bytes);
        kind_of(tree.open("x-images-idx3-ubyte"), words);
        kind_of(tree.open("y-images-idx3-ubyte.gz"), words);
    }
    write([40_000_000, 28, 28], 100);
    let start = fs::read(tree.path("x-images-idx3-ubyte")).unwrap();
    fs::write(tree.path("x-images-idx3-ubyte"), &start[..10]).unwrap();
    kind_of(tree.open("x-images-idx3-ubyte"), "its header is not whole");
}

#[test]
fn tiff_is_decoded_within_limits() {
    let decode = |bytes: &[u8], limits: &Limits| {
        let mut told = 0;
        Image::decode_within(bytes, limits, 0, &mut |bytes| {
            told = bytes;
            match bytes <= limits.decode_bytes {
                true => Ok(()),
                false => Err(crate::Error::data("more memory than there is")),
            }
        })
    };
    let bytes = fixture("lzw.tif");
    let small = Limits { pixels: 37 * 26 - 1, ..Limits::default() };
    kind_of(decode(&bytes, &small), PIXELS);
    let small = Limits { decode_bytes: 1 << 16, ..Limits::default() };
    kind_of(decode(&bytes, &small), "more memory");
    // A directory of values that are not there.
    let mut many = bytes.clone();
    let directory = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
    for entry in (directory + 2..).step_by(12).take(usize::from(bytes[directory])) {
        many[entry + 4..entry + 8].copy_from_slice(&0x0FFF_FFFFu32.to_le_bytes());
    }
    kind_of(decode(&many, &Limits::default()), "does not lie within the file");
}

#[test]
fn labels_of_samples_are_read_within_limits() {
    let tree = Tree::new();
    let one = png(9, 9, 1);
    let long = [b"{\"label\": \"", &vec![b'x'; 100_000][..], b"\"}"].concat();
    let lines = vec![b'y'; 300];
    let files: &[(&str, &[u8])] = &[
        ("a.png", &one),
        ("a.json", &long),
        ("b.png", &one),
        ("b.cls", &lines),
        ("c.png", &one),
        ("c.cls", b"\xFF\xFE"),
        ("d.png", &one),
        ("d.cls", b"dog"),
    ];
    archive(&tree.path("x.tar"), files, &[]);
    let set = tree.open("x.tar").unwrap();
    assert_eq!((set.len(), set.classes(), set.other_files()), (4, &["dog".to_owned()][..], 3));
    kind_of(open_within(&tree, "x.tar", Limits { images: 4, ..Limits::default() }), "MAX_IMAGES");
}

#[test]
fn parquet_files_are_unpacked_within_limits() {
    let tree = Tree::new();
    let bytes = fixture("snappy.parquet");
    fs::write(tree.path("x.parquet"), &bytes).unwrap();
    let within = |limits| open_within(&tree, "x.parquet", limits);
    kind_of(within(Limits { unpacked_bytes: 500, ..Limits::default() }), UNPACKED_BYTES);
    kind_of(within(Limits { images: 5, ..Limits::default() }), "ENGINE_MAX_IMAGES");
    kind_of(within(Limits { file_bytes: 400, ..Limits::default() }), FILE_BYTES);
    for cut in (0..bytes.len()).step_by(41) {
        fs::write(tree.path("x.parquet"), &bytes[..cut]).unwrap();
        assert_eq!(tree.open("x.parquet").unwrap_err().kind(), Kind::Data, "cut at {cut}");
    }
    // Metadata that end before they begin.
    let mut bad = bytes.clone();
    let at = bad.len() - 8;
    bad[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    fs::write(tree.path("x.parquet"), &bad).unwrap();
    kind_of(tree.open("x.parquet"), "its end is missing");
}

#[test]
fn tables_are_read_within_limits() {
    let tree = Tree::new();
    fs::write(tree.path("set/labels.csv"), "path,label\ntrain/cat/0.png,a\n".repeat(20)).unwrap();
    let small = Limits { file_bytes: 100, ..Limits::default() };
    kind_of(open_within(&tree, "set", small), FILE_BYTES);
    fs::write(tree.path("set/labels.csv"), b"path,label\n\xFF\xFE.png,a\n").unwrap();
    kind_of(tree.open("set"), "as a table");
    fs::write(tree.path("set/labels.csv"), "path,label\n,a\n").unwrap();
    kind_of(tree.open("set"), "line 2 has no path");
}
