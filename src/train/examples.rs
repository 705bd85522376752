//! A few images with their two views, for the report: what the net gets to see.

use std::io::Cursor;
use std::path::Path;

use image::ImageFormat;

use crate::data::survey::sheet;
use crate::data::{AnyImage, Dataset, Image, Input, Views};
use crate::error::{Error, Result};
use crate::files;
use crate::rng::{Philox, Purpose};

const EXAMPLES: usize = 6;
/// Pixels of their sides at most: the report has them in itself.
const MOST_SIDE: u32 = 256;

/// Rows and columns of the contact sheet: the report has it in itself.
const SHEET: [usize; 2] = [6, 8];

/// Writes `sheet.png`, some of the images, and `src_i.png`, `view0_i.png`, `view1_i.png`, … of a few images into `dir`.
pub(crate) fn write(
    dir: &Path,
    dataset: &Dataset,
    views: &[Views],
    seed: u64,
    side: usize,
) -> Result<()> {
    files::create_dir(dir)?;
    let channels = views.first().map_or(3, |views| views.mean.len());
    sheet::write(dataset, channels, SHEET, &dir.join("sheet.png"))?;
    let chosen = Philox::new(seed, Purpose::Subset, u64::MAX, 0).sample(dataset.len(), EXAMPLES);
    for (i, &image) in chosen.iter().enumerate() {
        // One that cannot be read is the loader's to report.
        let Ok(source) = dataset.load_as(image, channels) else { continue };
        save(&dir.join(format!("src_{i}.png")), source.shown())?;
        for (v, views) in views.iter().enumerate() {
            let seen = seen(&source, views, seed, i as u64, v as u16, side);
            save(&dir.join(format!("view{v}_{i}.png")), seen)?;
        }
    }
    Ok(())
}

/// A view as an image again.
fn seen(
    source: &AnyImage,
    views: &Views,
    seed: u64,
    position: u64,
    view: u16,
    side: usize,
) -> Image {
    let (width, height) = source.size();
    let params = views.draw(seed, position, view, width, height);
    let input = Input { side, mean: views.mean.clone(), std: views.std.clone() };
    input.shown(&source.view_alone(&params, &input))
}

fn save(path: &Path, image: Image) -> Result<()> {
    let mut png = Cursor::new(Vec::new());
    let written = image.within(MOST_SIDE)?.write_to(&mut png, ImageFormat::Png);
    written.map_err(|e| Error::write(path, e))?;
    files::write_atomic(path, |out| out.write_all(png.get_ref()))
}
