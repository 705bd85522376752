//! A few images with their two views, for the report: what the net gets to see.

use std::io::Cursor;
use std::path::Path;

use image::{ImageBuffer, ImageFormat, Rgb};

use crate::data::{Dataset, Image, Scratch, Views, render};
use crate::error::{Error, Result};
use crate::files;
use crate::rng::{Philox, Purpose};

const EXAMPLES: usize = 6;

/// Writes `src_i.png`, `view0_i.png`, `view1_i.png`, … of a few images into `dir`.
pub(crate) fn write(
    dir: &Path,
    dataset: &Dataset,
    views: &[Views],
    seed: u64,
    side: usize,
) -> Result<()> {
    files::create_dir(dir)?;
    let chosen = Philox::new(seed, Purpose::Subset, u64::MAX, 0).sample(dataset.len(), EXAMPLES);
    for (i, &image) in chosen.iter().enumerate() {
        // One that cannot be read is the loader's to report.
        let Ok(source) = dataset.load(image) else { continue };
        save(&dir.join(format!("src_{i}.png")), &source)?;
        for (v, views) in views.iter().enumerate() {
            let seen = seen(&source, views, seed, i as u64, v as u16, side);
            save(&dir.join(format!("view{v}_{i}.png")), &seen)?;
        }
    }
    Ok(())
}

/// A view as an image again.
fn seen(source: &Image, views: &Views, seed: u64, position: u64, view: u16, side: usize) -> Image {
    let params = views.draw(seed, position, view, source.width, source.height);
    let mut pixels = vec![0.0; side * side * 3];
    render(source, &params, &views.normalise(), side, &mut Scratch::default(), &mut pixels);
    let byte = |(i, v): (usize, &f32)| {
        let c = i % 3;
        ((v * views.std[c] + views.mean[c]) * 255.0).round().clamp(0.0, 255.0) as u8
    };
    let rgb = pixels.iter().enumerate().map(byte).collect();
    Image { width: side, height: side, rgb }
}

fn save(path: &Path, image: &Image) -> Result<()> {
    let (w, h) = (image.width as u32, image.height as u32);
    let buffer: ImageBuffer<Rgb<u8>, _> = ImageBuffer::from_raw(w, h, image.rgb.as_slice())
        .ok_or_else(|| Error::data("a decoded image has the wrong size"))?;
    let mut png = Cursor::new(Vec::new());
    buffer.write_to(&mut png, ImageFormat::Png).map_err(|e| Error::write(path, e))?;
    files::write_atomic(path, |out| out.write_all(png.get_ref()))
}
