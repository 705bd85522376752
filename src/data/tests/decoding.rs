//! Images of all formats.

use std::fs;

use super::*;

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
    let found = survey_all(&tree.open("set").unwrap());
    assert_eq!((found.images, found.sixteen_bit), (17, 1));
}

#[test]
fn formats_that_are_not_read_are_named() {
    let tree = Tree::new();
    let files: [(&str, &[u8]); 5] = [
        ("train/cat/a.psd", b"8BPS\0\x01"),
        ("train/cat/b.PSD", b"8BPS\0\x01"),
        ("train/dog/c.avif", b"\0\0\0\x20ftypavif"),
        ("train/dog/nameless", b"\0\0\0\x18ftypheic"),
        ("train/dog/d.jxl", b"\xFF\x0A"),
    ];
    for (name, bytes) in files {
        fs::write(tree.path("set").join(name), bytes).unwrap();
        fs::create_dir_all(tree.path("only").join(name).parent().unwrap()).unwrap();
        fs::write(tree.path("only").join(name), bytes).unwrap();
    }
    let expected = [("AVIF", 1), ("HEIC", 1), ("JPEG XL", 1), ("PSD", 2)];
    tree.tar("set.tar");
    let packed = zstd::encode_all(fs::File::open(tree.path("set.tar")).unwrap(), 1).unwrap();
    fs::write(tree.path("set.tar.zst"), packed).unwrap();
    for source in ["set", "set.tar", "set.tar.zst"] {
        let set = tree.open(source).unwrap();
        assert_eq!((set.len(), set.other_files()), (16, 1), "{source}");
        assert_eq!(set.unsupported_formats().into_iter().collect::<Vec<_>>(), expected, "{source}");
    }
    for source in ["only", "only/train/cat/a.psd"] {
        let e = tree.open(source).unwrap_err();
        let said = e.to_string();
        assert_eq!(e.kind(), Kind::Data);
        assert!(said.contains("PSD") && said.contains("convert them"), "{said}");
    }
    let said = tree.open("only").unwrap_err().to_string();
    assert!(said.contains("5 images in formats that are not read: AVIF 1 (such as "), "{said}");
    // Under a name that promises another format, and in a list, it is an image that cannot be read.
    fs::copy(tree.path("only/train/cat/a.psd"), tree.path("set/train/cat/a.jpg")).unwrap();
    fs::write(tree.path("set/list.txt"), "train/cat/0.png\ntrain/cat/a.psd\n").unwrap();
    for (source, name) in [("set", "a.jpg"), ("set/list.txt", "a.psd")] {
        let found = survey_all(&tree.open(source).unwrap());
        assert_eq!(found.corrupt.len(), 1, "{source}");
        let corrupt = &found.corrupt[0];
        assert!(
            corrupt.file.ends_with(name) && corrupt.reason.contains("it is PSD"),
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
