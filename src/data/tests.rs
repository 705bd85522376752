//! The whole path from files to batches, on images made here.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::Kind;

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

fn same(a: &Dataset, b: &Dataset, strip: &str) {
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
fn views_of(images: Images, options: &LoaderOptions) -> Vec<Vec<f32>> {
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

#[test]
fn every_container_holds_the_same_images() {
    let tree = Tree::new();
    let folder = tree.open("set#train").unwrap();
    assert_eq!((folder.len(), folder.classes()), (12, &["cat".to_owned(), "dog".to_owned()][..]));
    assert_eq!((folder.name(0).as_str(), folder.label(0)), ("train/cat/0.png", Some(0)));
    same(&folder, &tree.open("set/train").unwrap(), "train/");

    let tar = tree.tar("set.tar");
    same(&folder, &tree.open("set.tar#train").unwrap(), "");
    let packed = zstd::encode_all(&fs::read(&tar).unwrap()[..], 1).unwrap();
    fs::write(tree.path("set.tar.zst"), packed).unwrap();
    same(&folder, &tree.open("set.tar.zst#train").unwrap(), "");
    let whole = tree.open("set").unwrap();
    assert_eq!((whole.len(), whole.classes().len(), whole.other_files()), (16, 2, 1));
    same(&whole, &tree.open("set.tar.zst").unwrap(), "");

    let pack = tree.path("set.pack");
    let packed = pack::write(&whole, &pack, None, CorruptPolicy::default()).unwrap();
    assert_eq!((packed.images, packed.corrupt, packed.resized), (16, 0, 0));
    assert_eq!(packed.bytes, fs::metadata(&pack).unwrap().len());
    same(&whole, &tree.open("set.pack").unwrap(), "");
    same(&folder, &tree.open("set.pack#train").unwrap(), "");

    let lines: String = (0..folder.len()).map(|i| format!("set/{}\n", folder.name(i))).collect();
    fs::write(tree.path("list.txt"), lines).unwrap();
    same(&folder, &tree.open("list.txt").unwrap(), "set/");

    let one = tree.open("set/train/dog/3.png").unwrap();
    assert_eq!((one.len(), one.classes().len(), one.label(0)), (1, 0, None));
}

#[test]
fn shards_are_one_data_set() {
    let tree = Tree::new();
    fs::create_dir(tree.path("shards")).unwrap();
    for (i, class) in ["cat", "dog"].iter().enumerate() {
        let file = fs::File::create(tree.path(&format!("shards/{i}.tar"))).unwrap();
        let mut tar = tar::Builder::new(file);
        tar.append_dir_all(class, tree.path("set/train").join(class)).unwrap();
        tar.finish().unwrap();
    }
    let folder = tree.open("set/train").unwrap();
    same(&folder, &tree.open("shards").unwrap(), "");
    let both = ["shards/0.tar", "shards/1.tar"].map(|s| tree.path(s).to_str().unwrap().to_owned());
    same(&folder, &Dataset::open(&both).unwrap(), "");
}

#[test]
fn cifar_binary_files_are_recognised() {
    let tree = Tree::new();
    let dir = tree.path("cifar");
    fs::create_dir(&dir).unwrap();
    let record = |label: u8| {
        let mut r = vec![label];
        r.extend((0..3072).map(|i| (i / 1024 * 80 + i % 7) as u8));
        r
    };
    fs::write(dir.join("data_batch_1.bin"), [record(3), record(9)].concat()).unwrap();
    fs::write(dir.join("test_batch.bin"), record(3)).unwrap();
    let train = tree.open("cifar#train").unwrap();
    assert_eq!((train.len(), train.name(1).as_str()), (2, "train/data_batch_1.bin/00001"));
    assert_eq!(train.classes(), ["cat", "truck"]);
    let image = train.load(0).unwrap();
    assert_eq!((image.width, image.height, &image.rgb[3..6]), (32, 32, &[1, 83, 165][..]));
    assert_eq!(tree.open("cifar").unwrap().len(), 3);
    let mut tar = tar::Builder::new(fs::File::create(tree.path("c.tar")).unwrap());
    tar.append_dir_all("cifar", &dir).unwrap();
    tar.finish().unwrap();
    assert_eq!(tree.open("c.tar").unwrap().len(), 3);
    let pack = tree.path("c.pack");
    pack::write(&train, &pack, None, CorruptPolicy::default()).unwrap();
    same(&train, &tree.open("c.pack").unwrap(), "");
    let mut test = tree.open("cifar#test").unwrap();
    assert_eq!(test.label(0), Some(0));
    test.relabel(&["bird".into(), "cat".into()]).unwrap();
    assert_eq!(test.label(0), Some(1));
    kind_of(test.relabel(&["bird".into()]), "\"cat\"");
}

#[test]
fn sources_that_cannot_be_used_say_why() {
    let tree = Tree::new();
    fs::create_dir(tree.path("empty")).unwrap();
    kind_of(tree.open("empty"), "no image in");
    kind_of(tree.open("nowhere"), "cannot read");
    kind_of(tree.open("set#trian"), "test, train");
    fs::write(tree.path("x.txt"), "set/train/cat/77.png\n").unwrap();
    kind_of(tree.open("x.txt"), "77.png");
    fs::write(tree.path("x.tgz"), [0x1F, 0x8B, 8, 0]).unwrap();
    kind_of(tree.open("x.tgz"), "gzip");
    fs::write(tree.path("x.bin"), [7u8; 100].map(|_| 0u8)).unwrap();
    kind_of(tree.open("x.bin"), "is none of");
    fs::write(tree.path("nothing"), "").unwrap();
    kind_of(tree.open("nothing"), "is none of");
}

#[test]
fn archives_cut_anywhere_are_refused() {
    let tree = Tree::new();
    let bytes = fs::read(tree.tar("set.tar")).unwrap();
    let packed = zstd::encode_all(&bytes[..], 1).unwrap();
    for part in [0.2, 0.5, 0.7] {
        let cut = (bytes.len() as f64 * part) as usize / 512 * 512 + 100;
        fs::write(tree.path("cut.tar"), &bytes[..cut]).unwrap();
        kind_of(tree.open("cut.tar"), "cut short");
        fs::write(tree.path("cut.zst"), &packed[..(packed.len() as f64 * part) as usize]).unwrap();
        kind_of(tree.open("cut.zst"), "cut short");
    }
}

#[test]
fn packed_files_are_held_against_their_checksums() {
    let tree = Tree::new();
    let path = tree.path("set.pack");
    let set = tree.open("set").unwrap();
    pack::write(&set, &path, Some(20), CorruptPolicy::default()).unwrap();
    let small = tree.open("set.pack").unwrap();
    let image = small.load(0).unwrap();
    assert_eq!(image.width.max(image.height), 20);
    let whole = fs::read(&path).unwrap();
    for cut in [10, 57, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..cut]).unwrap();
        kind_of(tree.open("set.pack"), "not a whole packed file");
    }
    let mut changed = whole.clone();
    let last = changed.len() - 60;
    changed[last] ^= 1;
    fs::write(&path, &changed).unwrap();
    kind_of(tree.open("set.pack"), "not a whole packed file");
    let mut changed = whole;
    changed[8 + 16 + 60] ^= 1;
    fs::write(&path, &changed).unwrap();
    kind_of(tree.open("set.pack").unwrap().load(0), "checksum");
}

#[test]
fn batches_hold_as_many_views_as_asked_for_and_the_classes() {
    let tree = Tree::new();
    let set = Arc::new(tree.open("set#train").unwrap());
    let views = vec![Views::moco_v2(), Views::weak(), Views::moco_v2()];
    for deliver in [Deliver::Views, Deliver::Decoded] {
        let o = LoaderOptions { views: views.clone(), labels: true, deliver, ..options(5) };
        let batch = TrainLoader::new(set.clone(), o.clone()).unwrap().next().unwrap();
        let labels = batch.indices.iter().map(|&i| set.label(i).unwrap()).collect();
        assert_eq!(batch.targets, Some(Targets::Classes(labels)));
        let three = views_of(batch.views, &o);
        let two = TrainLoader::new(set.clone(), options(5)).unwrap().next().unwrap();
        assert_eq!(three.len(), 3);
        assert_eq!((two.targets, &views_of(two.views, &o)[..]), (None, &three[..2]));
        assert_ne!(three[0], three[2]);
    }
}

#[test]
fn batches_do_not_depend_on_workers_and_resume_where_asked() {
    let tree = Tree::new();
    let set = Arc::new(tree.open("set#train").unwrap());
    let take = |deliver, workers, start_step, n| {
        let o = LoaderOptions { deliver, workers, start_step, ..options(5) };
        let mut loader = TrainLoader::new(set.clone(), o.clone()).unwrap();
        assert_eq!(loader.steps_per_epoch(), 2);
        (0..n)
            .map(|_| {
                let b = loader.next().unwrap();
                (b.step, b.epoch, b.indices, views_of(b.views, &o))
            })
            .collect::<Vec<_>>()
    };
    let all = take(Deliver::Views, 1, 0, 7);
    assert_eq!(all, take(Deliver::Views, 3, 0, 7));
    assert_eq!(all[3..], take(Deliver::Views, 2, 3, 4));
    // The views are the same wherever they are rendered.
    assert_eq!(all, take(Deliver::Decoded, 3, 0, 7));
    assert_eq!(all[3..], take(Deliver::Decoded, 1, 3, 4));
    assert_eq!((all[3].0, all[3].1), (3, 1));
    assert_ne!(all[0].2, all[2].2);
    let mut epoch = [&all[0].2[..], &all[1].2[..]].concat();
    epoch.sort_unstable();
    epoch.dedup();
    assert_eq!(epoch.len(), 10);
    assert_ne!(all[0].3[0], all[0].3[1]);
    assert!(all[0].3[0].iter().all(|v| v.is_finite() && v.abs() < 3.0));
}

#[test]
fn a_small_set_fills_its_batch_by_repeating() {
    let tree = Tree::new();
    let set = Arc::new(tree.open("set#test").unwrap());
    let mut loader = TrainLoader::new(set, options(6)).unwrap();
    let batch = loader.next().unwrap();
    assert_eq!((batch.indices.len(), loader.steps_per_epoch()), (6, 1));
    assert_eq!(batch.indices[..2], batch.indices[4..]);
}

fn spoil(path: &Path) {
    fs::write(path, b"\xFF\xD8\xFF\xE0 no jpeg").unwrap();
}

#[test]
fn unreadable_images_are_replaced_and_counted() {
    let tree = Tree::new();
    for i in 0..4 {
        spoil(&tree.path(&format!("set/train/cat/{i}.png")));
    }
    // Nothing lies under the name that stands for one that is not UTF-8.
    let name = std::ffi::OsStr::from_bytes(b"4\xff.png");
    fs::rename(tree.path("set/train/cat/4.png"), tree.path("set/train/cat").join(name)).unwrap();
    let set = Arc::new(tree.open("set#train").unwrap());
    let take = |deliver, workers| {
        let o = LoaderOptions { deliver, workers, ..options(12) };
        let mut loader = TrainLoader::new(set.clone(), o).unwrap();
        let indices: Vec<_> = (0..3).map(|_| loader.next().unwrap().indices).collect();
        let said = loader.replaced();
        assert!(
            said.len() == 5 && said.iter().any(|line| line.contains("cat/4\u{fffd}.png")),
            "{said:?}"
        );
        indices
    };
    let indices = take(Deliver::Views, 1);
    assert!(indices.iter().flatten().all(|&i| i >= 5));
    assert_eq!(indices, take(Deliver::Views, 2));
    assert_eq!(indices, take(Deliver::Decoded, 2));
    let stop = LoaderOptions { on_corrupt: OnCorrupt::Stop, ..options(12) };
    kind_of(TrainLoader::new(set.clone(), stop).unwrap().next(), "on_corrupt");
    let all: Vec<usize> = (0..12).collect();
    let shown: Vec<usize> =
        eval_batches(set, &all, 16, 12, 2).unwrap().flat_map(|b| b.unwrap().indices).collect();
    assert_eq!(shown[5..], all[5..]);
    assert!(shown[..5].iter().all(|&i| i >= 5));
}

#[test]
fn too_many_unreadable_images_stop_the_run() {
    let tree = Tree::new();
    for class in ["cat", "dog"] {
        for i in 0..6 {
            spoil(&tree.path(&format!("set/train/{class}/{i}.png")));
        }
    }
    let mut loader =
        TrainLoader::new(Arc::new(tree.open("set#train").unwrap()), options(4)).unwrap();
    let e = std::iter::repeat_with(|| loader.next()).take(9).find_map(Result::err);
    // All twelve may be known to be bad before the eleventh is one too many.
    let said = e.unwrap().to_string();
    assert!(said.contains("max_corrupt") || said.contains("none of the 12"), "{said}");
    kind_of(loader.next(), "stopped");
    let few = Arc::new(tree.open("set/train/cat").unwrap());
    kind_of(TrainLoader::new(few, options(4)).unwrap().next(), "none of the 6");
}

#[test]
fn eval_takes_the_centre_in_order() {
    let tree = Tree::new();
    let set = Arc::new(tree.open("set").unwrap());
    let batches = eval_batches(set.clone(), &[3, 1, 1, 7, 0], 16, 2, 2).unwrap();
    assert_eq!(batches.batches(), 3);
    let all: Vec<EvalBatch> = batches.map(Result::unwrap).collect();
    let indices: Vec<_> = all.iter().map(|b| b.indices.clone()).collect();
    assert_eq!(indices, [vec![3, 1], vec![1, 7], vec![0]]);
    assert_eq!(all[0].x[16 * 16 * 3..], all[1].x[..16 * 16 * 3]);
    assert_eq!(all[2].x.len(), 16 * 16 * 3);
    // An image of the right size stays as it is.
    fs::create_dir(tree.path("exact")).unwrap();
    fs::write(tree.path("exact/a.png"), png(16, 16, 3)).unwrap();
    let exact = Arc::new(tree.open("exact").unwrap());
    let image = exact.load(0).unwrap();
    let x = eval_batches(exact, &[0], 16, 1, 1).unwrap().next().unwrap().unwrap().x;
    for (i, v) in image.rgb.iter().enumerate() {
        let expected = (f32::from(*v) / 255.0 - IMAGENET_MEAN[i % 3]) / IMAGENET_STD[i % 3];
        assert!((x[i] - expected).abs() < 1e-6, "{} {expected}", x[i]);
    }
    assert_eq!(eval_batches(set, &[99], 16, 2, 2).err().unwrap().kind(), Kind::Usage);
}

/// A smooth JPEG of odd size.
fn jpeg() -> Vec<u8> {
    let image = ::image::RgbImage::from_fn(53, 37, |x, y| {
        ::image::Rgb([(x * 4) as u8, (y * 6) as u8, (128 + x - y) as u8])
    });
    let mut bytes = Vec::new();
    ::image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 90)
        .encode_image(&image)
        .unwrap();
    bytes
}

#[test]
fn every_cut_of_a_file_is_an_error_and_padding_is_none() {
    let whole = jpeg();
    let image = Image::decode(&whole).unwrap();
    assert_eq!((image.width, image.height), (53, 37));
    for cut in 0..whole.len() {
        assert_eq!(Image::decode(&whole[..cut]).unwrap_err().kind(), Kind::Data, "cut at {cut}");
    }
    let padded = [&whole[..], &[0; 300]].concat();
    assert_eq!(Image::decode(&padded).unwrap(), image);
    let whole = png(20, 10, 1);
    for cut in 0..whole.len() - 12 {
        assert_eq!(Image::decode(&whole[..cut]).unwrap_err().kind(), Kind::Data, "cut at {cut}");
    }
}

#[test]
fn changed_bytes_never_panic() {
    let mut rng = crate::rng::Philox::new(1, crate::rng::Purpose::Check, 0, 0);
    for whole in [jpeg(), png(20, 10, 1)] {
        for _ in 0..500 {
            let mut bytes = whole.clone();
            for _ in 0..1 + rng.below(4) {
                let at = rng.below(bytes.len());
                bytes[at] = rng.next_u32() as u8;
            }
            if let Ok(image) = Image::decode(&bytes) {
                assert_eq!(image.rgb.len(), 3 * image.width * image.height);
            }
        }
    }
}

#[test]
fn exif_rotation_is_carried_out() {
    let plain = jpeg();
    let image = Image::decode(&plain).unwrap();
    // EXIF: big-endian TIFF with one entry, orientation 6 (turn a quarter clockwise).
    let tiff = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let segment = [&[0xFF, 0xE1, 0, tiff.len() as u8 + 2], &tiff[..]].concat();
    let turned = Image::decode(&[&plain[..2], &segment, &plain[2..]].concat()).unwrap();
    assert_eq!((turned.width, turned.height), (37, 53));
    let pixel = |i: &Image, x: usize, y: usize| i.rgb[3 * (y * i.width + x)..][..3].to_vec();
    assert_eq!(pixel(&turned, 36, 0), pixel(&image, 0, 0));
    assert_eq!(pixel(&turned, 0, 0), pixel(&image, 0, 36));
}

#[test]
fn grey_alpha_and_sixteen_bits_become_rgb() {
    use ::image::{DynamicImage, ImageFormat, Rgb, Rgba};
    let decoded = |image: DynamicImage, format| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        Image::decode(&bytes.into_inner()).unwrap()
    };
    let deep = ::image::ImageBuffer::from_pixel(3, 2, Rgb([0u16, 257 * 100, 65535]));
    assert_eq!(decoded(deep.into(), ImageFormat::Png).rgb[..3], [0, 100, 255]);
    let clear = ::image::ImageBuffer::from_pixel(3, 2, Rgba([10u8, 20, 30, 0]));
    assert_eq!(decoded(clear.into(), ImageFormat::Png).rgb[..3], [10, 20, 30]);
    let grey = ::image::ImageBuffer::from_pixel(3, 2, ::image::Luma([77u8]));
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Pnm, ImageFormat::Gif] {
        let image = if format == ImageFormat::Gif {
            DynamicImage::from(grey.clone()).into_rgba8().into()
        } else {
            DynamicImage::from(grey.clone())
        };
        let image = decoded(image, format);
        assert_eq!((image.width, image.height, &image.rgb[..3]), (3, 2, &[77, 77, 77][..]));
    }
}

#[test]
fn every_value_of_sixteen_bits_becomes_the_nearest_of_eight() {
    use ::image::{DynamicImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb, Rgba};
    let value = |x: u32, y: u32| (256 * y + x) as u16;
    let images: [DynamicImage; 4] = [
        ImageBuffer::from_fn(256, 256, |x, y| Luma([value(x, y)])).into(),
        ImageBuffer::from_fn(256, 256, |x, y| LumaA([value(x, y), 9])).into(),
        ImageBuffer::from_fn(256, 256, |x, y| Rgb([value(x, y); 3])).into(),
        ImageBuffer::from_fn(256, 256, |x, y| Rgba([value(x, y), value(x, y), value(x, y), 9]))
            .into(),
    ];
    let nearest = |v: usize| (v as f64 * 255.0 / 65535.0).round() as u8;
    for (image, format) in
        images.iter().flat_map(|i| [(i, ImageFormat::Png), (i, ImageFormat::Pnm)])
    {
        let mut bytes = std::io::Cursor::new(Vec::new());
        if image.write_to(&mut bytes, format).is_err() {
            continue;
        }
        let bytes = bytes.into_inner();
        assert!(Format::sniff(&bytes).unwrap().is_sixteen_bit(&bytes));
        let decoded = Image::decode(&bytes).unwrap();
        let wrong = (0..65536).find(|&v| decoded.rgb[3 * v..3 * v + 3] != [nearest(v); 3]);
        assert_eq!(wrong, None, "{:?} {format:?}", image.color());
    }
    // Samples of 12 bits, and of fewer than 8.
    let pgm = |header: &str, samples: &[u8]| [header.as_bytes(), samples].concat();
    for (bytes, deep, expected) in [
        (pgm("P5\n# 9 9 9\n2 1\n4095\n", &[0x0F, 0xFF, 0x08, 0x00]), true, [255, 128]),
        (pgm("P5 2 1 15\n", &[15, 5]), false, [255, 85]),
        (pgm("P2\n2 1\n65535\n", b"65535 128\n"), true, [255, 0]),
        (
            pgm(
                "P7\nWIDTH 2\nHEIGHT 1\nDEPTH 1\nMAXVAL 65535\nTUPLTYPE GRAYSCALE\nENDHDR\n",
                &[0xFF, 0xFF, 0, 129],
            ),
            true,
            [255, 1],
        ),
    ] {
        assert_eq!(Format::sniff(&bytes).unwrap().is_sixteen_bit(&bytes), deep);
        let rgb = Image::decode(&bytes).unwrap().rgb;
        assert_eq!([rgb[0], rgb[3]], expected);
    }
}

#[test]
fn images_of_sixteen_bits_are_counted() {
    let tree = Tree::new();
    let deep = ::image::ImageBuffer::from_pixel(3, 2, ::image::Luma([999u16]));
    deep.save(tree.path("set/train/cat/deep.png")).unwrap();
    let found = survey::survey(&tree.open("set").unwrap(), |_| ());
    assert_eq!((found.images, found.sixteen_bit), (17, 1));
}

#[test]
fn formats_that_are_not_read_are_named() {
    let tree = Tree::new();
    let files: [(&str, &[u8]); 5] = [
        ("train/cat/a.tif", b"II*\0\x08\0\0\0"),
        ("train/cat/b.TIFF", b"MM\0*\0\0\0\x08"),
        ("train/dog/c.avif", b"\0\0\0\x20ftypavif"),
        ("train/dog/nameless", b"\0\0\0\x18ftypheic"),
        ("train/dog/d.jxl", b"\xFF\x0A"),
    ];
    for (name, bytes) in files {
        fs::write(tree.path("set").join(name), bytes).unwrap();
        fs::create_dir_all(tree.path("only").join(name).parent().unwrap()).unwrap();
        fs::write(tree.path("only").join(name), bytes).unwrap();
    }
    let expected = [("AVIF", 1), ("HEIC", 1), ("JPEG XL", 1), ("TIFF", 2)];
    tree.tar("set.tar");
    let packed = zstd::encode_all(fs::File::open(tree.path("set.tar")).unwrap(), 1).unwrap();
    fs::write(tree.path("set.tar.zst"), packed).unwrap();
    for source in ["set", "set.tar", "set.tar.zst"] {
        let set = tree.open(source).unwrap();
        assert_eq!((set.len(), set.other_files()), (16, 1), "{source}");
        assert_eq!(set.unsupported_formats().into_iter().collect::<Vec<_>>(), expected, "{source}");
    }
    for source in ["only", "only/train/cat/a.tif"] {
        let e = tree.open(source).unwrap_err();
        let said = e.to_string();
        assert_eq!(e.kind(), Kind::Data);
        assert!(said.contains("TIFF") && said.contains("convert them"), "{said}");
    }
    let said = tree.open("only").unwrap_err().to_string();
    assert!(said.contains("5 images in formats that are not read: AVIF 1 (such as "), "{said}");
    // Under a name that promises another format, and in a list, it is an image that cannot be read.
    fs::copy(tree.path("only/train/cat/a.tif"), tree.path("set/train/cat/a.jpg")).unwrap();
    fs::write(tree.path("set/list.txt"), "train/cat/0.png\ntrain/cat/a.tif\n").unwrap();
    for (source, name) in [("set", "a.jpg"), ("set/list.txt", "a.tif")] {
        let found = survey::survey(&tree.open(source).unwrap(), |_| ());
        assert_eq!(found.corrupt.len(), 1, "{source}");
        let corrupt = &found.corrupt[0];
        assert!(
            corrupt.file.ends_with(name) && corrupt.reason.contains("it is TIFF"),
            "{corrupt:?}"
        );
    }
}

#[test]
fn images_that_claim_to_be_huge_are_refused() {
    let mut bomb = png(20, 10, 1);
    bomb[16..20].copy_from_slice(&60_000u32.to_be_bytes());
    bomb[20..24].copy_from_slice(&60_000u32.to_be_bytes());
    assert!(Image::decode(&bomb).is_err());
    let mut bomb = jpeg();
    let at = bomb.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
    bomb[at + 5..at + 9].copy_from_slice(&[0xEA, 0x60, 0xEA, 0x60]);
    kind_of(Image::decode(&bomb), "60000x60000");
}
