//! What holds images.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use engine::data::{CorruptPolicy, Dataset, pack};
use engine::outside::printable;
use image::ImageFormat;

use crate::common::fuzz::{Answer, Fuzz};
use crate::{encoded, fixtures, limits, rgb};

/// A folder of files to begin with, and a place for what is read.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let set = dir.path().join("set");
        for class in ["cat", "dog"] {
            fs::create_dir_all(set.join(class)).unwrap();
            for i in 0..2 {
                fs::write(set.join(format!("{class}/{i}.png")), encoded(&rgb(), ImageFormat::Png))
                    .unwrap();
            }
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn open(&self, name: &str) -> engine::Result<Dataset> {
        Dataset::open_within(&[self.path(name).to_str().unwrap().to_owned()], limits())
    }

    /// An archive of the folder, with a long name, links and CIFAR records.
    fn tar(&self, gnu: bool) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        // The same bytes whenever it is made.
        tar.mode(tar::HeaderMode::Deterministic);
        tar.append_dir_all("set", self.path("set")).unwrap();
        let header = |kind, size| {
            let mut header = if gnu { tar::Header::new_gnu() } else { tar::Header::new_ustar() };
            header.set_entry_type(kind);
            header.set_size(size);
            header.set_mode(0o644);
            header
        };
        let png = encoded(&rgb(), ImageFormat::Png);
        if gnu {
            let name = format!("{}/x.png", "long/".repeat(40));
            let mut plain = header(tar::EntryType::Regular, png.len() as u64);
            tar.append_data(&mut plain, name, &png[..]).unwrap();
        } else {
            tar.append_pax_extensions([("path", &b"by/pax.png"[..])]).unwrap();
            let mut plain = header(tar::EntryType::Regular, png.len() as u64);
            tar.append_data(&mut plain, "short.png", &png[..]).unwrap();
        }
        for (kind, target) in
            [(tar::EntryType::Link, "set/cat/0.png"), (tar::EntryType::Symlink, "cat/1.png")]
        {
            let mut link = header(kind, 0);
            tar.append_link(&mut link, "set/link.png", target).unwrap();
        }
        let records = cifar();
        let mut plain = header(tar::EntryType::Regular, records.len() as u64);
        tar.append_data(&mut plain, "data_batch_1.bin", &records[..]).unwrap();
        tar.into_inner().unwrap()
    }
}

fn cifar() -> Vec<u8> {
    let record = |label: u8| [&[label][..], &[label * 20; 3072]].concat();
    [record(3), record(9), record(0)].concat()
}

/// Opens what was changed, and reads some of its images.
fn read_set(place: &Place, name: &str, bytes: &[u8]) -> Answer {
    fs::write(place.path(name), bytes).unwrap();
    let set = match place.open(name) {
        Ok(set) => set,
        Err(e) => {
            assert_eq!(e.exit_code(), 3, "{e}");
            return Answer::Refused(e.to_string());
        }
    };
    assert!(!set.is_empty());
    let mut taken = None;
    for i in (0..set.len()).step_by(set.len().div_ceil(8)) {
        assert!(set.label(i).is_none_or(|label| label < set.classes().len()));
        match set.load(i) {
            Ok(image) => {
                assert_eq!(image.rgb.len(), 3 * image.width * image.height);
                taken = taken.or(Some(Answer::Taken));
            }
            Err(e) => {
                let name = printable(&set.name(i)).to_string();
                assert!(e.to_string().contains(&name), "{e}: {name}");
            }
        }
    }
    taken.unwrap_or(Answer::Refused("no image can be read".into()))
}

fn fuzz_sets(
    name: &str,
    file: &str,
    seeds: Vec<Vec<u8>>,
    inputs: usize,
    repair: Option<fn(&mut [u8])>,
    place: &Place,
) {
    // Headers between members, images, and what a window of zstd takes (which the allocator of C
    // hands out, unseen by ours).
    let most_bytes = (64 << 20) + limits().decode_bytes;
    let fuzz = Fuzz { name, seeds, inputs, repair, most_bytes };
    fuzz.run(|bytes| read_set(place, file, bytes));
}

/// Makes the checksums of all headers right.
fn repair_tar(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(header) = bytes.get_mut(at..at + 512) {
        let sum = |h: &[u8]| h.iter().map(|&b| u32::from(b)).sum::<u32>();
        let total = sum(&header[..148]) + 8 * 32 + sum(&header[156..]);
        header[148..156].copy_from_slice(format!("{total:06o}\0 ").as_bytes());
        let digits = std::str::from_utf8(&header[124..135]).unwrap_or_default();
        let size = u64::from_str_radix(digits.trim_matches(['\0', ' ']), 8).unwrap_or(0);
        at = at.saturating_add(512).saturating_add(size.next_multiple_of(512) as usize);
    }
}

#[test]
fn tar() {
    let place = Place::new();
    let seeds = vec![place.tar(true), place.tar(false)];
    fuzz_sets("tar", "x.tar", seeds, 200, Some(repair_tar), &place);
}

#[test]
fn tar_zst() {
    let place = Place::new();
    let pack = |tar: Vec<u8>| zstd::encode_all(&tar[..], 1).unwrap();
    let seeds = vec![pack(place.tar(true)), pack(place.tar(false))];
    fuzz_sets("tar.zst", "x.tar.zst", seeds, 100, None, &place);
    // The archive within, changed and compressed again.
    let seeds = vec![place.tar(true), place.tar(false)];
    let most_bytes = (64 << 20) + limits().decode_bytes;
    Fuzz { name: "zst(tar)", seeds, inputs: 100, repair: Some(repair_tar), most_bytes }
        .run(|bytes| read_set(&place, "x.tar.zst", &zstd::encode_all(bytes, 1).unwrap()));
}

#[test]
fn cifar_files() {
    let place = Place::new();
    let fine = [&[4u8, 33][..], &[9; 3072], &[19, 99], &[1; 3072]].concat();
    fuzz_sets("cifar", "data_batch_1.bin", vec![cifar(), fine], 200, None, &place);
}

/// Makes the index of a packed file agree with its checksum.
fn repair_pack(bytes: &mut [u8]) {
    let Some(footer) = bytes.len().checked_sub(48) else { return };
    let len = u64::from_le_bytes(bytes[footer..footer + 8].try_into().unwrap());
    let Some(start) = usize::try_from(len).ok().and_then(|len| footer.checked_sub(len)) else {
        return;
    };
    let hash = blake3::hash(&bytes[start..footer]);
    bytes[footer + 8..footer + 40].copy_from_slice(hash.as_bytes());
}

#[test]
fn packed() {
    let place = Place::new();
    let set = place.open("set").unwrap();
    pack::write(&set, &place.path("x.pack"), pack::Form::default(), CorruptPolicy::default())
        .unwrap();
    let seeds = vec![fs::read(place.path("x.pack")).unwrap()];
    fuzz_sets("pack", "x.pack", seeds, 300, Some(repair_pack), &place);
}

#[test]
fn list() {
    let place = Place::new();
    let seeds = vec![
        b"set/cat/0.png 1\nset/dog/1.png 0\n".to_vec(),
        b"set/cat/0.png\tcat\nset/dog/0.png\tblack dog\n\nset/dog/1.png\tdog\n".to_vec(),
    ];
    fuzz_sets("list", "x.txt", seeds, 200, None, &place);
}

#[test]
fn table() {
    let place = Place::new();
    let seeds = vec![
        b"path,label\nset/cat/0.png,cat\nset/dog/1.png,\"black, dog\"\n".to_vec(),
        b"id,image\n1,set/cat/0.png\n2,set/dog/1.png\n".to_vec(),
    ];
    fuzz_sets("table", "x.csv", seeds, 200, None, &place);
}

#[test]
fn idx() {
    let place = Place::new();
    let header = |kind: u8, numbers: &[u32]| -> Vec<u8> {
        [0, 0, 8, kind].into_iter().chain(numbers.iter().flat_map(|n| n.to_be_bytes())).collect()
    };
    let images = [header(3, &[5, 4, 3]), (0..60).collect()].concat();
    let labels = [header(1, &[5]), vec![0, 1, 2, 1, 0]].concat();
    fs::write(place.path("x-labels-idx1-ubyte"), &labels).unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&images).unwrap();
    let packed = packed.finish().unwrap();
    fuzz_sets("idx", "x-images-idx3-ubyte", vec![images.clone(), packed], 300, None, &place);
    fs::write(place.path("x-images-idx3-ubyte"), &images).unwrap();
    let most_bytes = (64 << 20) + limits().decode_bytes;
    Fuzz { name: "labels", seeds: vec![labels], inputs: 200, repair: None, most_bytes }.run(
        |bytes| {
            fs::write(place.path("x-labels-idx1-ubyte"), bytes).unwrap();
            read_set(&place, "x-images-idx3-ubyte", &images)
        },
    );
}

#[test]
fn parquet() {
    let place = Place::new();
    fuzz_sets("parquet", "x.parquet", fixtures("parquet"), 600, None, &place);
}

#[test]
fn samples() {
    let place = Place::new();
    let png = encoded(&rgb(), ImageFormat::Png);
    let mut tar = tar::Builder::new(Vec::new());
    let files: [(&str, &[u8]); 5] = [
        ("a.png", &png),
        ("a.json", br#"{"label": "cat", "width": 29}"#),
        ("b.cls", b"3"),
        ("b.png", &png),
        ("b.txt", b"a caption"),
    ];
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).unwrap();
    }
    let seeds = vec![tar.into_inner().unwrap()];
    fuzz_sets("samples", "x.tar", seeds, 200, Some(repair_tar), &place);
}
