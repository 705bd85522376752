//! Help for whole-program tests: images, and the program itself.
#![allow(dead_code)]

pub(crate) mod fuzz;
pub(crate) mod python;
pub(crate) mod runs;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The program, with one compute thread unless the test says otherwise.
pub(crate) fn engine(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
    command.args(args);
    command
}

/// Runs the program to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    engine(args).output().expect("the program starts")
}

/// Runs the program and expects an exit code; returns (stdout, stderr).
pub(crate) fn expect(code: i32, args: &[&str]) -> (String, String) {
    let out = run(args);
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
    assert_eq!(
        out.status.code(),
        Some(code),
        "engine {}\nstdout: {stdout}\nstderr: {stderr}",
        args.join(" ")
    );
    (stdout, stderr)
}

/// Class folders of small images: `classes` × `each`, 32×32, stripes of different angles.
pub(crate) fn images(dir: &Path, classes: usize, each: usize) -> PathBuf {
    let root = dir.join("images");
    for class in 0..classes {
        let folder = root.join(format!("class{class}"));
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..each {
            let seed = (class * 7919 + i * 104_729) as u32;
            let image = image::RgbImage::from_fn(32, 32, |x, y| {
                let wave = (x * (class as u32 + 1) + y * 2 + seed) % 17 * 15;
                let noise = (x * 31 + y * 17 + seed).wrapping_mul(2_654_435_761) >> 26;
                image::Rgb([(wave + noise).min(255) as u8, (seed % 200) as u8, wave as u8])
            });
            image.save(folder.join(format!("{i:04}.png"))).unwrap();
        }
    }
    root
}

/// A path as text.
pub(crate) fn s(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}
