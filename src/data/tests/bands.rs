//! Images of other than three channels: what is read, and what views make of it.

use ::image::{DynamicImage, GrayImage, ImageBuffer, ImageFormat, Luma};

use super::super::bands::of_rgb;
use super::kinds::fixture;
use super::*;

fn read(bytes: &[u8], channels: usize) -> crate::Result<Bands> {
    Bands::decode_within(bytes, channels, &Limits::default(), &mut |_| Ok(()))
}

fn encoded(image: DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

#[test]
fn grey_keeps_its_bits() {
    let deep = ImageBuffer::from_fn(5, 4, |x, y| Luma([(x * 9000 + y * 17) as u16]));
    let expected: Vec<u16> = deep.pixels().map(|p| p.0[0]).collect();
    let found = read(&encoded(DynamicImage::ImageLuma16(deep), ImageFormat::Png), 1).unwrap();
    assert_eq!((found.width, found.height, found.samples), (5, 4, expected));
    let shallow = GrayImage::from_fn(5, 4, |x, y| Luma([(x * 50 + y) as u8]));
    let expected: Vec<u16> = shallow.pixels().map(|p| u16::from(p.0[0]) * 257).collect();
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Pnm] {
        let bytes = encoded(DynamicImage::ImageLuma8(shallow.clone()), format);
        assert_eq!(read(&bytes, 1).unwrap().samples, expected, "{format:?}");
    }
    // Of colours it is the weighted sum, which grey ones leave as it is.
    let grey = of_rgb(&Image { width: 2, height: 1, rgb: vec![7, 7, 7, 255, 0, 0] });
    assert_eq!(grey.samples, [7 * 257, 19_595]);
}

#[test]
fn tiff_has_the_channels_that_it_has() {
    let bytes = fixture("refused/bands.tif");
    let six = read(&bytes, 6).unwrap();
    assert_eq!(six.samples.len(), 6 * six.width * six.height);
    kind_of(read(&bytes, 4), "expected 4 channels, found 6");
    kind_of(read(&bytes, 1), "found Multiband");
    // RGB of a file is not six bands, and four are its own.
    let rgba = fixture("seeds/alpha.tif");
    assert_eq!(read(&rgba, 4).unwrap().planes().len(), 4);
    kind_of(read(&fixture("seeds/palette.tif"), 4), "found a palette");
    // Planes or pixels, stored as 8 bits or 16, turned or not: the same as RGB's first channel.
    for name in ["planes", "lzw", "tiled"] {
        let bytes = fixture(&format!("seeds/{name}.tif"));
        let (rgb, bands) = (Image::decode(&bytes).unwrap(), read(&bytes, 3).unwrap());
        let red = bands.planes().next().unwrap();
        let same = |(band, rgb): (&u16, &[u8])| band.abs_diff(u16::from(rgb[0]) * 257) <= 128;
        assert!(red.iter().zip(rgb.rgb.chunks_exact(3)).all(same), "{name}");
    }
    let turned = read(&fixture("seeds/turned.tif"), 3).unwrap();
    assert_eq!((turned.width, turned.height), (26, 37));
    kind_of(read(&png(4, 4, 1), 2), "only TIFF files have");
}

#[test]
fn every_cut_and_change_is_an_error_or_an_image() {
    let whole = fixture("refused/bands.tif");
    let fine = |found: crate::Result<Bands>| {
        if let Ok(found) = found {
            assert_eq!(found.samples.len(), 6 * found.width * found.height);
        }
    };
    (0..whole.len()).for_each(|cut| fine(read(&whole[..cut], 6)));
    for at in 0..whole.len().min(400) {
        for value in [0, 1, 0x7F, 0xFF] {
            let mut changed = whole.clone();
            changed[at] = value;
            fine(read(&changed, 6));
        }
    }
}

/// A grey image as RGB and as one band.
fn pair(width: usize, height: usize) -> [AnyImage; 2] {
    let value = |i: usize| ((i % width) * 3 + (i / width) * 2 + 20) as u8;
    let rgb = (0..width * height).flat_map(|i| [value(i); 3]).collect();
    let image = Image { width, height, rgb };
    [AnyImage::Bands(of_rgb(&image)), AnyImage::Rgb(image)]
}

#[test]
fn views_of_a_band_are_those_of_a_grey_image() {
    let one = Input { side: 16, mean: vec![0.0], std: vec![1.0] };
    let three = Input { side: 16, mean: vec![0.0; 3], std: vec![1.0; 3] };
    let views =
        Views { saturation: 0.0, hue: 0.0, grey_p: 0.0, solarise_p: 0.3, ..Views::moco_v2() };
    let [band, rgb] = pair(40, 30);
    for position in 0..200 {
        let params = views.draw(3, position, 0, 40, 30);
        let (found, expected) = (band.view_alone(&params, &one), rgb.view_alone(&params, &three));
        // The other's values are rounded to 8 bits after every step, and its blur is three boxes,
        // which shows in the corners; solarisation sends values near the threshold to either side.
        let apart = |(a, b): (&f32, &[f32])| (a - b[0]).abs();
        let all: Vec<f32> = found.iter().zip(expected.chunks_exact(3)).map(apart).collect();
        let far = all.iter().filter(|d| **d > 4.0 / 255.0).count();
        let most = all.len() / if params.solarise.is_some() { 8 } else { 64 };
        assert!(far <= most, "{position}: {far} of {} apart, {params:?}", all.len());
    }
}

#[test]
fn steps_of_a_view_do_what_they_say() {
    let input = Input { side: 4, mean: vec![0.25, 0.5], std: vec![0.5, 2.0] };
    let samples: Vec<u16> = (0..32).map(|i| if i < 16 { i * 4000 } else { 500 }).collect();
    let image = AnyImage::Bands(Bands { width: 4, height: 4, samples: samples.clone() });
    let plain = ViewParams::of(Crop { x: 0, y: 0, width: 4, height: 4 });
    let unit = |i: usize| f32::from(samples[i]) / 65_535.0;
    let check = |params: &ViewParams, expected: &dyn Fn(usize) -> f32| {
        let found = image.view_alone(params, &input);
        for i in 0..32 {
            let (c, at) = (i / 16, i % 16);
            let expected = (expected(i) - input.mean[c]) / input.std[c];
            let found = found[at * 2 + c];
            assert!((found - expected).abs() < 1e-5, "{params:?} {i}: {found} {expected}");
        }
    };
    check(&plain, &unit);
    check(&ViewParams { flip: true, ..plain.clone() }, &|i| unit(i / 4 * 4 + 3 - i % 4));
    let brighter =
        ViewParams { adjust: [Some(Adjust::Brightness(1.5)), None, None, None], ..plain.clone() };
    check(&brighter, &|i| (1.5 * unit(i)).min(1.0));
    let contrast =
        ViewParams { adjust: [None, Some(Adjust::Contrast(0.5)), None, None], ..plain.clone() };
    let mean = |c: usize| (16 * c..16 * c + 16).map(unit).sum::<f32>() / 16.0;
    check(&contrast, &|i| 0.5 * (unit(i) + mean(i / 16)));
    let solarised = ViewParams { solarise: Some(128), ..plain.clone() };
    check(&solarised, &|i| if unit(i) >= 128.0 / 255.0 { 1.0 - unit(i) } else { unit(i) });
    // What is the same everywhere is so after blurring, and the sum of all stays.
    let blurred = image.view_alone(&ViewParams { blur_sigma: Some(1.0), ..plain }, &input);
    assert!((0..16).all(|i| (blurred[2 * i + 1] * 2.0 + 0.5 - 500.0 / 65_535.0).abs() < 1e-5));
    let spread = |values: Vec<f32>| {
        let mean = values.iter().sum::<f32>() / 16.0;
        values.iter().map(|v| (v - mean).powi(2)).sum::<f32>()
    };
    let first = |all: &[f32]| all.iter().step_by(2).copied().collect::<Vec<f32>>();
    assert!(spread(first(&blurred)) < 0.6 * spread((0..16).map(|i| unit(i) / 0.5).collect()));
}

#[test]
fn people_see_bands_stretched() {
    let bands = Bands { width: 2, height: 1, samples: vec![100, 300, 5, 5, 0, 65_535, 1, 2] };
    assert_eq!(AnyImage::Bands(bands).shown().rgb, [0, 0, 0, 255, 0, 255]);
    let grey = Bands { width: 2, height: 1, samples: vec![100, 300] };
    assert_eq!(AnyImage::Bands(grey).shown().rgb, [0, 0, 0, 255, 255, 255]);
    let input = Input { side: 1, mean: vec![0.5], std: vec![0.1] };
    assert_eq!(input.shown(&[0.0]).rgb, [128; 3]);
}
