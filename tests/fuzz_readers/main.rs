//! Readers of images and of what holds images, given valid inputs that were changed at random:
//! no panic, no more memory than was asked for and allowed, and an error or an image of the size
//! that it claims. See `tests/common/fuzz.rs`.

mod annotated;
#[path = "../common/mod.rs"]
mod common;
mod images;
mod sets;

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use common::fuzz::{Answer, Counting, Fuzz};
use engine::data::Limits;
use image::{DynamicImage, ImageFormat};

#[global_allocator]
static COUNTING: Counting = Counting;

/// Limits that leave a machine of 1 GB unharmed.
fn limits() -> Limits {
    Limits {
        file_bytes: 1 << 20,
        pixels: 1 << 20,
        images: 1000,
        decode_bytes: 64 << 20,
        batch_bytes: 64 << 20,
        unpacked_bytes: 4 << 20,
        zstd_window_log: 23,
    }
}

fn rgb() -> DynamicImage {
    let pixel = |x: u32, y: u32| image::Rgb([(x * 9) as u8, (y * 11) as u8, (x * y) as u8]);
    image::RgbImage::from_fn(29, 23, pixel).into()
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// The fixtures whose names end so.
fn fixtures(ending: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/seeds");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == ending));
    paths.sort();
    assert!(!paths.is_empty(), "no fixtures {ending}");
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// That the driver would notice: readers that panic or take too much.
#[test]
fn faults_are_noticed() {
    let noticed = |name: &str, read: &dyn Fn(&[u8]) -> Answer| {
        let fuzz =
            Fuzz { name, seeds: vec![vec![7; 40]], inputs: 60, repair: None, most_bytes: 1000 };
        let run = std::panic::AssertUnwindSafe(|| fuzz.run(read));
        std::panic::catch_unwind(run).is_err()
    };
    assert!(!noticed("sound", &|_| Answer::Taken));
    assert!(noticed("panics", &|bytes| {
        assert!(bytes.iter().take(3).all(|b| *b == 7), "a fault");
        Answer::Taken
    }));
    assert!(noticed("greedy", &|bytes| {
        if bytes[..bytes.len().min(3)] != [7; 3] {
            std::hint::black_box(Vec::<u8>::with_capacity(2000));
        }
        Answer::Taken
    }));
    for entry in fs::read_dir(std::env::temp_dir()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("fuzz-panics-") || name.starts_with("fuzz-greedy-") {
            fs::remove_file(path).unwrap();
        }
    }
}
