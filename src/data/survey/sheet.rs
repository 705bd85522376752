//! A contact sheet: small images side by side, to look at before training.

use std::path::Path;

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, Rgb, RgbImage, imageops};
use rayon::prelude::*;

use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::files::write_atomic;

/// Side of an image's place, with its border, and of the image in it.
const PLACE: u32 = 72;
const SIDE: u32 = 68;
const GROUND: Rgb<u8> = Rgb([128, 128, 128]);

/// Writes a PNG of a data set's images, `rows` × `columns` at most, read as ones of so many channels. Where it has classes, a row shows images of one, spread
/// evenly, and the classes of the rows are returned; else all rows show any images. Images that
/// cannot be read leave their places empty.
///
/// # Errors
/// The file cannot be written.
pub fn write(
    dataset: &Dataset,
    channels: usize,
    [rows, columns]: [usize; 2],
    out: &Path,
) -> Result<Vec<String>> {
    let mut of_class: Vec<Vec<usize>> = vec![Vec::new(); dataset.classes().len()];
    for i in 0..dataset.len() {
        if let Some(label) = dataset.label(i) {
            of_class[label].push(i);
        }
    }
    let some = |all: &[usize], count: usize| -> Vec<usize> {
        let count = all.len().min(count);
        (0..count).map(|k| all[k * all.len() / count]).collect()
    };
    let shown: Vec<usize> = (0..of_class.len()).filter(|c| !of_class[*c].is_empty()).collect();
    let shown = some(&shown, rows);
    let rows: Vec<Vec<usize>> = if shown.is_empty() {
        let all: Vec<usize> = (0..dataset.len()).collect();
        some(&all, rows * columns).chunks(columns).map(<[usize]>::to_vec).collect()
    } else {
        shown.iter().map(|class| some(&of_class[*class], columns)).collect()
    };
    let columns = rows.iter().map(Vec::len).max().unwrap_or(1) as u32;
    let mut sheet = RgbImage::from_pixel(columns * PLACE, rows.len() as u32 * PLACE, GROUND);
    for (y, row) in rows.iter().enumerate() {
        let images: Vec<Option<RgbImage>> =
            row.par_iter().map(|&i| small(dataset, i, channels)).collect();
        for (x, image) in images.into_iter().enumerate() {
            let Some(image) = image else { continue };
            let at = |i: usize, side: u32| i64::from(i as u32 * PLACE + (PLACE - side) / 2);
            imageops::overlay(&mut sheet, &image, at(x, image.width()), at(y, image.height()));
        }
    }
    write_png(&sheet, out)?;
    Ok(shown.into_iter().map(|class| dataset.classes()[class].clone()).collect())
}

/// An image that fits its place.
fn small(dataset: &Dataset, i: usize, channels: usize) -> Option<RgbImage> {
    let image = dataset.load_as(i, channels).ok()?.shown();
    let (width, height) = (image.width as u32, image.height as u32);
    let longer = width.max(height);
    let side = |s: u32| (u64::from(s) * u64::from(SIDE) / u64::from(longer)).max(1) as u32;
    let image = RgbImage::from_raw(width, height, image.rgb)?;
    // Pixels of small images stay squares.
    let filter = if longer > SIDE { imageops::Triangle } else { imageops::Nearest };
    Some(imageops::resize(&image, side(width), side(height), filter))
}

fn write_png(sheet: &RgbImage, out: &Path) -> Result<()> {
    let mut bytes = Vec::new();
    let (width, height) = sheet.dimensions();
    PngEncoder::new(&mut bytes)
        .write_image(sheet, width, height, ExtendedColorType::Rgb8)
        .map_err(|e| Error::data(format!("cannot encode a sheet of {width}x{height}: {e}")))?;
    write_atomic(out, |file| file.write_all(&bytes))
}
