//! Views of images, given their parameters: one at a time in native code ([`render`]), or a
//! batch at once wherever the images lie ([`RgbImages`]). Both give the same bits.

mod checks;
mod cpu;
mod kernels;
pub mod work;

use rayon::prelude::*;

pub use self::checks::checks;
pub use self::cpu::{Scratch, render};
pub(super) use self::cpu::{with_scratch, write_normalised};
use super::Image;
use super::pixels::Normalise;
use super::views::{Adjust, ViewParams};
use crate::cx::{Cx, Exec};
use crate::error::{Error, Result};
use crate::tensor::{DType, Meta, Shape, Tensor};

/// How the views of a batch are laid out.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewFormat {
    /// Pixels of a row, and rows.
    pub side: usize,
    /// 3, or 4 of which the last is 0.
    pub channels: usize,
    /// Type of the values; bf16 on devices only.
    pub dtype: DType,
    /// What a byte becomes.
    pub normalise: Normalise,
}

/// The decoded images of a batch, where their views are made: in host memory, or on a device.
pub struct RgbImages {
    sizes: Vec<Size>,
    store: Store,
}

/// Size of an image, and where it begins among the bytes of all.
#[derive(Clone, Copy, Debug)]
struct Size {
    offset: usize,
    width: usize,
    height: usize,
}

enum Store {
    Host(Vec<Image>),
    /// All images' bytes, one after the other.
    Device(Tensor),
    Planned,
}

impl RgbImages {
    /// Takes images to where views are made of them.
    ///
    /// # Errors
    /// [`Kind::Data`](crate::Kind::Data) for an image without pixels, or whose pixels do not
    /// fill its size.
    pub fn new(cx: &Cx, images: Vec<Image>) -> Result<Self> {
        for (i, Image { width, height, rgb }) in images.iter().enumerate() {
            if rgb.is_empty() || rgb.len() != 3 * width * height {
                let found = format!("{} bytes for {width}x{height}", rgb.len());
                return Err(Error::data(format!(
                    "image {i} of a batch: expected 3 bytes for each of its pixels, at least \
                     one, found {found}"
                )));
            }
        }
        let (sizes, bytes) = lay_out(images.iter().map(|i| (i.width, i.height)));
        let store = match cx.exec("augment") {
            Exec::Cpu => Store::Host(images),
            Exec::DryRun => Store::Planned,
            Exec::Device(_) => {
                let mut rgb = Vec::with_capacity(bytes);
                images.iter().for_each(|image| rgb.extend_from_slice(&image.rgb));
                Store::Device(cx.upload_bytes(&rgb)?)
            }
        };
        Ok(Self { sizes, store })
    }

    /// Images of these widths and heights that lie on a device already, one after the other.
    ///
    /// # Errors
    /// [`Kind::Data`](crate::Kind::Data) where there are fewer bytes than their pixels have.
    pub fn on_device(sizes: &[(usize, usize)], rgb: Tensor) -> Result<Self> {
        let (sizes, bytes) = lay_out(sizes.iter().copied());
        let found = rgb.meta().size_bytes();
        if found < bytes {
            return Err(Error::data(format!(
                "the images of a batch: expected {bytes} bytes on the device, found {found}"
            )));
        }
        Ok(Self { sizes, store: Store::Device(rgb) })
    }

    /// One view of every image, N×side×side×channels, normalised.
    ///
    /// # Errors
    /// [`Kind::Usage`](crate::Kind::Usage) where there is not one view for each image, a crop
    /// lies outside of its image, or the format has no pixels or other than 3 or 4 channels.
    pub fn views(&self, cx: &Cx, views: &[ViewParams], format: &ViewFormat) -> Result<Tensor> {
        self.check(views, format)?;
        let ViewFormat { side, channels, dtype, .. } = *format;
        let meta = Meta::new(Shape::nhwc(views.len(), side, side, channels), dtype);
        let mut out = cx.alloc(meta)?;
        match (cx.exec("augment"), &self.store) {
            _ if views.is_empty() => {}
            (Exec::DryRun, _) => {}
            (Exec::Cpu, Store::Host(images)) => native(images, views, format, &mut out)?,
            (Exec::Device(launcher), Store::Device(bytes)) => {
                kernels::render(cx, &launcher, (&self.sizes, bytes), views, format, &mut out)?;
            }
            _ => {
                let here = cx.name();
                return Err(Error::device(format!("the images of a batch are not on {here}")));
            }
        }
        Ok(out)
    }

    fn check(&self, views: &[ViewParams], format: &ViewFormat) -> Result<()> {
        if views.len() != self.sizes.len() {
            let (expected, found) = (self.sizes.len(), views.len());
            return Err(Error::usage(format!(
                "expected a view of each of {expected} images, found {found}"
            )));
        }
        if format.side == 0 || !(3..=4).contains(&format.channels) {
            return Err(Error::usage(format!(
                "expected views of at least 1 pixel and 3 or 4 channels, found {format:?}"
            )));
        }
        for (i, (size, view)) in self.sizes.iter().zip(views).enumerate() {
            let Size { width, height, .. } = *size;
            let c = view.crop;
            let inside = |start: usize, len: usize, all: usize| {
                len > 0 && start.checked_add(len).is_some_and(|end| end <= all)
            };
            if !inside(c.x, c.width, width) || !inside(c.y, c.height, height) {
                return Err(Error::usage(format!(
                    "view {i}: expected a crop inside of its image of {width}x{height}, found {c:?}"
                )));
            }
            let contrast = |a: &&Option<Adjust>| matches!(a, Some(Adjust::Contrast(_)));
            if view.adjust.iter().filter(contrast).count() > 1 {
                return Err(Error::usage(format!(
                    "view {i}: contrast is adjusted at most once, found {:?}",
                    view.adjust
                )));
            }
        }
        Ok(())
    }
}

/// Where images begin that lie one after the other, and how many bytes they have.
fn lay_out(sizes: impl Iterator<Item = (usize, usize)>) -> (Vec<Size>, usize) {
    let mut bytes = 0;
    let place = |(width, height)| {
        let offset = bytes;
        bytes += 3 * width * height;
        Size { offset, width, height }
    };
    (sizes.map(place).collect(), bytes)
}

/// Views in native code, one image after the other on each thread.
fn native(
    images: &[Image],
    views: &[ViewParams],
    format: &ViewFormat,
    out: &mut Tensor,
) -> Result<()> {
    let ViewFormat { side, channels, ref normalise, dtype } = *format;
    if dtype != DType::F32 {
        return Err(Error::usage(format!("the CPU makes views in F32, not in {dtype:?}")));
    }
    let all = out.host_mut::<f32>().par_chunks_exact_mut(side * side * channels);
    all.zip(images).zip(views).for_each(|((out, image), view)| {
        with_scratch(|scratch| {
            if channels == 3 {
                return render(image, view, normalise, side, scratch, out);
            }
            let mut pixels = vec![0.0; 3 * side * side];
            render(image, view, normalise, side, scratch, &mut pixels);
            for (out, pixel) in out.chunks_exact_mut(4).zip(pixels.chunks_exact(3)) {
                out[..3].copy_from_slice(pixel);
                out[3] = 0.0;
            }
        });
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Views;

    #[test]
    fn a_batch_is_its_images_one_by_one() {
        let cx = Cx::cpu(2).unwrap();
        let sizes = [(9, 7), (1, 1), (30, 12)];
        let image = |i: usize, (width, height): (usize, usize)| Image {
            width,
            height,
            rgb: (0..3 * width * height).map(|k| (k * (31 + i)) as u8).collect(),
        };
        let images: Vec<Image> = sizes.iter().enumerate().map(|(i, s)| image(i, *s)).collect();
        let settings = Views::moco_v2();
        let draw = |(i, s): (usize, &(usize, usize))| settings.draw(1, i as u64, 0, s.0, s.1);
        let views: Vec<ViewParams> = sizes.iter().enumerate().map(draw).collect();
        let (side, normalise) = (6, settings.normalise());
        let on_device = RgbImages::new(&cx, images.clone()).unwrap();
        let batch = |channels| {
            let format =
                ViewFormat { side, channels, dtype: DType::F32, normalise: normalise.clone() };
            cx.download(&on_device.views(&cx, &views, &format).unwrap()).unwrap()
        };
        let mut expected = Vec::new();
        for (image, view) in images.iter().zip(&views) {
            let mut out = vec![0.0; side * side * 3];
            render(image, view, &normalise, side, &mut Scratch::default(), &mut out);
            expected.extend(out);
        }
        assert_eq!(batch(3), expected);
        let padded = batch(4);
        assert!(padded.chunks_exact(4).zip(expected.chunks_exact(3)).all(|(p, e)| p[..3] == *e));
        assert!(padded.iter().skip(3).step_by(4).all(|x| *x == 0.0));
    }

    #[test]
    fn checks_apply_to_the_cpu_where_they_compare_with_nothing() {
        let cx = Cx::for_tests();
        let (mut passed, all) = (0, checks());
        for (name, check) in &all {
            let outcome = check(&cx).unwrap_or_else(|why| panic!("{name}: {why}"));
            passed += usize::from(outcome == crate::ops::Outcome::Passed);
        }
        assert_eq!((passed, all.len() > 10), (1, true));
    }
}
