//! Launches of `kernels/augment.cu`.

use bytemuck::NoUninit;

use super::cpu::hue_levels;
use super::{Size, ViewFormat};
use crate::cx::Cx;
use crate::data::blur::BoxFilter;
use crate::data::resample::Filter;
use crate::data::views::{Adjust, ViewParams};
use crate::device::{DevicePtr, Geometry, Launcher, size};
use crate::error::Result;
use crate::kernel;
use crate::tensor::{DType, Meta, Shape, Tensor};

/// Threads of a block, as in the kernel.
const THREADS: u32 = 512;
/// Blocks that make views at the same time; each has memory of its own.
const MOST_BLOCKS: usize = 256;
/// Views whose pixels fit in this twice are kept in shared memory.
const SHARED_BYTES: usize = 40 << 10;
/// Bytes of a pixel between the steps.
const PIXEL_BYTES: usize = 4;

/// `View`: one view.
#[derive(Clone, Copy, Debug, Default, NoUninit)]
#[repr(C)]
struct View {
    image: u64,
    width: u32,
    crop_x: u32,
    crop_y: u32,
    crop_width: u32,
    crop_height: u32,
    filter: u32,
    weights: u32,
    taps_across: u32,
    adjust: [u32; 4],
    factors: [f32; 4],
    grey: u32,
    solarise: u32,
    flip: u32,
    blur_reach: u32,
    blur_centre: u32,
    blur_edge: u32,
}

/// `AugmentParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    views: u32,
    side: u32,
    channels: u32,
    in_shared: u32,
    scale: [f32; 3],
    shift: [f32; 3],
}

/// One view of each image into `out`.
pub(super) fn render(
    cx: &Cx,
    launcher: &Launcher,
    (sizes, bytes): (&[Size], &Tensor),
    views: &[ViewParams],
    format: &ViewFormat,
    out: &mut Tensor,
) -> Result<()> {
    let ViewFormat { side, channels, dtype, ref normalise } = *format;
    let [scale, shift] = normalise.of_bytes();
    size(out.shape().elems())?;
    let mut records = Vec::with_capacity(views.len());
    let mut weights = 0;
    for (image, view) in sizes.iter().zip(views) {
        let (record, taps) = record(image, view, side, size(weights)?)?;
        records.push(record);
        weights += taps * side;
    }
    let records = cx.upload_bytes(&records)?;
    let blocks = views.len().min(MOST_BLOCKS);
    let kept_bytes = 2 * side * side * PIXEL_BYTES;
    let in_shared = kept_bytes <= SHARED_BYTES;
    let scratch = |words| cx.scratch(Meta::new(Shape::vector(words), DType::F32));
    let mut windows = scratch(blocks * 4 * side)?;
    let mut weights = scratch(size(weights)? as usize)?;
    let mut kept = if in_shared { None } else { Some(scratch(blocks * kept_bytes / 4)?) };
    let params = Params {
        views: size(views.len())?,
        side: size(side)?,
        channels: size(channels)?,
        in_shared: in_shared.into(),
        scale,
        shift,
    };
    let geometry = Geometry::linear(size(blocks)?, THREADS);
    let geometry = geometry.shared(if in_shared { size(kept_bytes)? } else { 0 });
    let pointers = [
        bytes.device(),
        records.device(),
        windows.device_mut(),
        weights.device_mut(),
        kept.as_mut().map_or(DevicePtr::NULL, |kept| kept.device_mut()),
        out.device_mut(),
    ];
    launcher.launch(kernel!("augment", dtype), geometry, &pointers, &params)
}

/// What the kernel is told of a view, and how many weights an output has along both axes
/// together. Its weights begin at `weights`.
fn record(image: &Size, view: &ViewParams, side: usize, weights: u32) -> Result<(View, usize)> {
    let crop = view.crop;
    let taps = |input: usize| {
        let scale = (input as f64 / side as f64).max(1.0);
        input.min((2.0 * view.filter.support() * scale).ceil() as usize + 1)
    };
    let (across, down) = (taps(crop.width), taps(crop.height));
    let mut record = View {
        image: image.offset as u64,
        width: size(image.width)?,
        crop_x: size(crop.x)?,
        crop_y: size(crop.y)?,
        crop_width: size(crop.width)?,
        crop_height: size(crop.height)?,
        filter: match view.filter {
            Filter::Bilinear => 0,
            Filter::Bicubic => 1,
        },
        weights,
        taps_across: size(across)?,
        grey: view.grey.into(),
        solarise: view.solarise.map_or(256, u32::from),
        flip: view.flip.into(),
        ..View::default()
    };
    for (i, adjust) in view.adjust.iter().enumerate() {
        (record.adjust[i], record.factors[i]) = match *adjust {
            None => (0, 0.0),
            Some(Adjust::Brightness(factor)) => (1, factor),
            Some(Adjust::Contrast(factor)) => (2, factor),
            Some(Adjust::Saturation(factor)) => (3, factor),
            Some(Adjust::Hue(turn)) => (4, hue_levels(turn)),
        };
    }
    if let Some(filter) = view.blur_sigma.and_then(BoxFilter::new) {
        record.blur_reach = size(filter.reach)?;
        (record.blur_centre, record.blur_edge) = (filter.centre, filter.edge);
    }
    Ok((record, across + down))
}
