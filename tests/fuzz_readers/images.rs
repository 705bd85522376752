//! Images of all formats.

use engine::data::{Admit, Bands, Image};
use image::{DynamicImage, ExtendedColorType, ImageEncoder, ImageFormat};

use crate::common::fuzz::{Answer, Fuzz, peak_of};
use crate::{encoded, fixtures, limits, rgb};

/// What reading takes beside what limits count: buffers of files, messages.
const BESIDE_BYTES: u64 = 1 << 20;

/// Decodes to RGB, and holds what is told against what is done.
fn decode(bytes: &[u8]) -> Answer {
    let limits = limits();
    decoded(|admit| {
        let image = Image::decode_within(bytes, &limits, 0, admit)?;
        assert_eq!(image.rgb.len(), 3 * image.width * image.height);
        Ok(image.width * image.height)
    })
}

/// Likewise to so many channels.
fn decode_bands(bytes: &[u8], channels: usize) -> Answer {
    let limits = limits();
    decoded(|admit| {
        let bands = Bands::decode_within(bytes, channels, &limits, admit)?;
        assert_eq!(bands.samples.len(), channels * bands.width * bands.height);
        Ok(bands.width * bands.height)
    })
}

/// `decode` gives the number of pixels.
fn decoded(decode: impl FnOnce(&mut Admit) -> engine::Result<usize>) -> Answer {
    let most = limits().decode_bytes;
    let mut told = 0;
    let (pixels, peak) = peak_of(|| {
        decode(&mut |bytes| {
            told = bytes;
            match bytes <= most {
                true => Ok(()),
                false => Err(engine::Error::data("more than there is")),
            }
        })
    });
    assert!(peak <= told.min(most) + BESIDE_BYTES, "told {told}, took {peak}");
    match pixels {
        Ok(pixels) => {
            assert!(pixels <= 1 << 20);
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
pub(crate) fn repair_png(bytes: &mut [u8]) {
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

#[test]
fn tiff() {
    fuzz_images("tiff", fixtures("tif"), None);
}

#[test]
fn bands() {
    let most_bytes = limits().decode_bytes + BESIDE_BYTES;
    let fixture = |name: &str| std::fs::read(format!("tests/fixtures/{name}.tif")).unwrap();
    let fuzz = |name, seeds, channels| {
        Fuzz { name, seeds, inputs: 400, repair: None, most_bytes }
            .run(|bytes| decode_bands(bytes, channels));
    };
    fuzz("six bands", vec![fixture("refused/bands")], 6);
    fuzz("four bands", ["alpha", "cmyk"].map(|name| fixture(&format!("seeds/{name}"))).to_vec(), 4);
    let deep = DynamicImage::ImageLuma16(rgb().into_luma16());
    let grey = [fixtures("tif"), vec![encoded(&deep, ImageFormat::Png)]].concat();
    fuzz("grey", grey, 1);
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
