//! The whole path from files to batches, on images made here.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::Kind;

mod archives;
mod bands;
mod batches;
mod decoding;
mod hostile_kinds;
mod kinds;
mod sources;

/// An image whose pixels say which it is.
pub(super) fn png(width: u32, height: u32, seed: u32) -> Vec<u8> {
    let image = ::image::RgbImage::from_fn(width, height, |x, y| {
        ::image::Rgb([(x * 7 + seed * 40) as u8, (y * 5 + seed) as u8, (x + y + seed * 9) as u8])
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, ::image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

pub(super) struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    /// `train/{cat,dog}` with 6 images each, `test/{cat,dog}` with 2 each.
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (split, n) in [("train", 6), ("test", 2)] {
            for (c, class) in ["dog", "cat"].iter().enumerate() {
                let folder = dir.path().join("set").join(split).join(class);
                fs::create_dir_all(&folder).unwrap();
                for i in 0..n {
                    let seed = c as u32 * 10 + i;
                    fs::write(folder.join(format!("{i}.png")), png(40 + i, 33, seed)).unwrap();
                }
            }
        }
        fs::write(dir.path().join("set/README.txt"), "not an image").unwrap();
        Self { dir }
    }
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    pub(super) fn open(&self, name: &str) -> crate::Result<Dataset> {
        Dataset::open(&[self.path(name).to_str().unwrap().to_owned()])
    }
    pub(super) fn tar(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let mut tar = tar::Builder::new(fs::File::create(&path).unwrap());
        tar.append_dir_all(".", self.path("set")).unwrap();
        tar.finish().unwrap();
        path
    }
}

pub(super) fn same(a: &Dataset, b: &Dataset, strip: &str) {
    assert_eq!((a.len(), a.classes()), (b.len(), b.classes()));
    for i in 0..a.len() {
        assert_eq!(a.name(i).trim_start_matches(strip), b.name(i).trim_start_matches(strip));
        assert_eq!((a.label(i), a.load(i).unwrap()), (b.label(i), b.load(i).unwrap()));
    }
}

pub(super) fn options(batch: usize) -> LoaderOptions {
    LoaderOptions {
        views: vec![Views::moco_v2(), Views::weak()],
        labels: false,
        resolution: 16,
        batch,
        workers: 2,
        seed: 5,
        start_step: 0,
        on_corrupt: OnCorrupt::Replace,
        max_corrupt: 0.001,
        deliver: Deliver::Views,
    }
}

/// The views of a batch; rendered here where the loader leaves that to others.
pub(super) fn views_of(images: Images, options: &LoaderOptions) -> Vec<Vec<f32>> {
    let Decoded { rgb, sizes, params } = match images {
        Images::Views(views) => return views.into_iter().map(Pixels::into_vec).collect(),
        Images::Decoded(decoded) => decoded,
    };
    let side = options.resolution;
    let mut views = vec![vec![0.0; sizes.len() * side * side * 3]; options.views.len()];
    let mut rest = &rgb[..];
    for (i, (width, height)) in sizes.into_iter().enumerate() {
        let (rgb, after) = rest.split_at(3 * width * height);
        rest = after;
        let image = Image { width, height, rgb: rgb.to_vec() };
        for (v, out) in views.iter_mut().enumerate() {
            let out = out.chunks_exact_mut(side * side * 3).nth(i).unwrap();
            let normalise = options.views[v].normalise();
            render(&image, &params[v][i], &normalise, side, &mut Scratch::default(), out);
        }
    }
    assert!(rest.is_empty());
    views
}

pub(super) fn kind_of<T: std::fmt::Debug>(result: crate::Result<T>, words: &str) {
    let e = result.unwrap_err();
    assert_eq!(e.kind(), Kind::Data, "{e}");
    assert!(e.to_string().contains(words), "{e}");
}

/// What there is, of all images.
pub(super) fn survey_all(set: &Dataset) -> survey::Survey {
    survey::survey(set, &survey::Extent::All.of(set), 3, |_| ())
}
