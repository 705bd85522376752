//! Readers of images and of what holds images, given valid inputs that were changed at random:
//! no panic, no more memory than was asked for and allowed, and an error or an image of the size
//! that it claims. See `tests/common/fuzz.rs`.

mod common;

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use common::fuzz::{Answer, Counting, Fuzz, peak_of};
use engine::data::{CorruptPolicy, Dataset, Image, Limits, pack};
use engine::outside::printable;
use image::{DynamicImage, ExtendedColorType, ImageEncoder, ImageFormat};

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

/// What reading takes beside what limits count: buffers of files, messages.
const BESIDE_BYTES: u64 = 1 << 20;

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

/// Decodes, and holds what is told against what is done.
fn decode(bytes: &[u8]) -> Answer {
    let limits = limits();
    let mut told = 0;
    let (image, peak) = peak_of(|| {
        Image::decode_within(bytes, &limits, 0, &mut |bytes| {
            told = bytes;
            match bytes <= limits.decode_bytes {
                true => Ok(()),
                false => Err(engine::Error::data("more than there is")),
            }
        })
    });
    assert!(peak <= told.min(limits.decode_bytes) + BESIDE_BYTES, "told {told}, took {peak}");
    match image {
        Ok(image) => {
            assert_eq!(image.rgb.len(), 3 * image.width * image.height);
            assert!(image.width * image.height <= 1 << 20);
            Answer::Taken
        }
        Err(e) => {
            assert_eq!(e.exit_code(), 3);
            assert!(e.to_string().len() < 2000, "{e}");
            Answer::Refused(e.to_string())
        }
    }
}

fn fuzz_images(name: &str, seeds: Vec<Vec<u8>>, repair: Option<fn(&mut [u8])>) {
    let most_bytes = limits().decode_bytes + BESIDE_BYTES;
    Fuzz { name, seeds, inputs: 400, repair, most_bytes }.run(decode);
}

#[test]
fn jpeg() {
    let mut seeds = fixtures("jpg");
    seeds.push(encoded(&rgb(), ImageFormat::Jpeg));
    fuzz_images("jpeg", seeds, None);
}

/// Makes a PNG's checksums right.
fn repair_png(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(head) = bytes.get(at..at + 8) {
        let len = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(end) = at.checked_add(8 + len).filter(|end| end + 4 <= bytes.len()) else {
            return;
        };
        let crc = crc32(&bytes[at + 4..end]);
        bytes[end..end + 4].copy_from_slice(&crc.to_be_bytes());
        at = end + 4;
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| (c >> 1) ^ (0xEDB8_8320 * (c & 1)))
    };
    !bytes.iter().fold(!0, step)
}

#[test]
fn png() {
    let mut seeds = fixtures("png");
    seeds.push(encoded(&rgb(), ImageFormat::Png));
    seeds.push(encoded(&rgb().into_rgba16().into(), ImageFormat::Png));
    seeds.push(encoded(&rgb().into_luma16().into(), ImageFormat::Png));
    fuzz_images("png", seeds, Some(repair_png));
}

#[test]
fn bmp() {
    let mut seeds = fixtures("bmp");
    seeds.push(encoded(&rgb(), ImageFormat::Bmp));
    seeds.push(encoded(&rgb().into_rgba8().into(), ImageFormat::Bmp));
    fuzz_images("bmp", seeds, None);
}

#[test]
fn gif() {
    let mut seeds = fixtures("gif");
    seeds.push(encoded(&rgb().into_rgba8().into(), ImageFormat::Gif));
    fuzz_images("gif", seeds, None);
}

/// Its decoder holds five bytes for each of a frame's pixels, and the frame says how many there are.
#[test]
fn a_frame_that_a_gif_claims_is_paid_for() {
    let mut bytes = encoded(&rgb().into_rgba8().into(), ImageFormat::Gif);
    let sides = [29, 0, 23, 0];
    let at = (13..).find(|at| bytes[*at] == b',' && bytes[at + 5..at + 9] == sides).unwrap();
    for sides in [(41_245, 87), (2048, 2030), (65_535, 64), (65_535, 65_535)] {
        let (w, h): (u16, u16) = sides;
        bytes[at + 5..at + 7].copy_from_slice(&w.to_le_bytes());
        bytes[at + 7..at + 9].copy_from_slice(&h.to_le_bytes());
        assert!(matches!(decode(&bytes), Answer::Refused(_)), "{w}x{h} was taken");
    }
}

#[test]
fn webp() {
    let mut seeds = fixtures("webp");
    seeds.push(encoded(&rgb().into_rgba8().into(), ImageFormat::WebP));
    fuzz_images("webp", seeds, None);
}

#[test]
fn pnm() {
    use image::codecs::pnm::{PnmEncoder, PnmSubtype, SampleEncoding};
    let mut seeds = vec![encoded(&rgb(), ImageFormat::Pnm)];
    let grey = rgb().into_luma8();
    for sampling in [SampleEncoding::Ascii, SampleEncoding::Binary] {
        let mut bytes = Vec::new();
        PnmEncoder::new(&mut bytes)
            .with_subtype(PnmSubtype::Graymap(sampling))
            .write_image(&grey, 29, 23, ExtendedColorType::L8)
            .unwrap();
        seeds.push(bytes);
    }
    seeds.push(b"P1\n# bits\n4 2\n1 0 1 0\n0 1 0 1\n".to_vec());
    seeds.push(b"P6\n2 1\n65535\n0123456789ab".to_vec());
    let pam = b"P7\nWIDTH 2\nHEIGHT 1\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n01234567";
    seeds.push(pam.to_vec());
    fuzz_images("pnm", seeds, None);
}

/// EXIF blocks alone, within images that are otherwise sound.
#[test]
fn exif() {
    let tiff = |big: bool, orientation: u8| -> Vec<u8> {
        let number = |n: u32, bytes: usize| {
            if big {
                n.to_be_bytes()[4 - bytes..].to_vec()
            } else {
                n.to_le_bytes()[..bytes].to_vec()
            }
        };
        let mut block = if big { b"MM".to_vec() } else { b"II".to_vec() };
        for (n, bytes) in [(42, 2), (8, 4), (1, 2), (0x112, 2), (3, 2), (1, 4)] {
            block.extend(number(n, bytes));
        }
        block.extend(number(orientation.into(), 2));
        block.extend([0; 6]);
        block
    };
    let seeds = (0..10).map(|o| tiff(o % 2 == 0, o)).collect();
    let (jpeg, png) = (encoded(&rgb(), ImageFormat::Jpeg), encoded(&rgb(), ImageFormat::Png));
    let webp = encoded(&rgb(), ImageFormat::WebP);
    let most_bytes = limits().decode_bytes + BESIDE_BYTES;
    Fuzz { name: "exif", seeds, inputs: 300, repair: None, most_bytes }.run(|block| {
        let len = block.len() + 8;
        let mut in_jpeg = jpeg[..2].to_vec();
        in_jpeg.extend([0xFF, 0xE1, (len >> 8) as u8, len as u8]);
        in_jpeg.extend_from_slice(b"Exif\0\0");
        in_jpeg.extend_from_slice(block);
        in_jpeg.extend_from_slice(&jpeg[2..]);
        let mut in_png = png[..33].to_vec();
        in_png.extend((block.len() as u32).to_be_bytes());
        in_png.extend_from_slice(b"eXIf");
        in_png.extend_from_slice(block);
        in_png.extend([0; 4]);
        in_png.extend_from_slice(&png[33..]);
        repair_png(&mut in_png);
        let in_webp = webp_with_exif(&webp, block, block.len() as u32);
        for image in [in_jpeg, in_png, in_webp] {
            if let Answer::Refused(why) = decode(&image) {
                return Answer::Refused(why);
            }
        }
        Answer::Taken
    });
}

/// A plain WebP of 29×23 as an extended one with an EXIF block that claims to have `len` bytes.
fn webp_with_exif(plain: &[u8], block: &[u8], len: u32) -> Vec<u8> {
    let mut body = b"WEBPVP8X\x0a\0\0\0\x08\0\0\0\x1c\0\0\x16\0\0".to_vec();
    body.extend_from_slice(&plain[12..]);
    body.extend_from_slice(b"EXIF");
    body.extend(len.to_le_bytes());
    body.extend_from_slice(block);
    body.resize(body.len().next_multiple_of(2), 0);
    [b"RIFF", &(body.len() as u32).to_le_bytes()[..], &body].concat()
}

#[test]
fn a_length_that_a_webp_claims_is_not_believed() {
    let plain = encoded(&rgb(), ImageFormat::WebP);
    let image = Image::decode(&plain).unwrap();
    for len in [40, 0x7FFF_FFFF, 0xFFFF_FFFE, 0xFFFF_FFFF] {
        let bytes = webp_with_exif(&plain, &[0; 30], len);
        let (decoded, peak) = peak_of(|| Image::decode(&bytes).unwrap());
        assert_eq!(decoded, image);
        assert!(peak < 4 << 20, "{peak}");
    }
    // A frame of 16383×16383 in an image of 29×23.
    let seed = fixtures("webp").into_iter().find(|b| b.windows(4).any(|w| w == b"VP8 ")).unwrap();
    let mut bytes = seed.clone();
    let at = bytes.windows(3).position(|w| w == [0x9D, 0x01, 0x2A]).unwrap();
    bytes[at + 3..at + 7].copy_from_slice(&[0xFF, 0x3F, 0xFF, 0x3F]);
    let (decoded, peak) = peak_of(|| Image::decode(&bytes));
    assert!(decoded.is_err() && peak < 1 << 20, "{peak}");
}

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
    pack::write(&set, &place.path("x.pack"), None, CorruptPolicy::default()).unwrap();
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
