//! Launches of `kernels/cut_mix.cu`.

use bytemuck::NoUninit;

use super::Window;
use crate::cx::Cx;
use crate::device::{Geometry, Launcher, size};
use crate::error::Result;
use crate::kernel;
use crate::ops::vector;
use crate::tensor::{Shape, Tensor};

/// `CutMixParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    elems: u32,
    height: u32,
    width: u32,
    channels: u32,
    top: u32,
    left: u32,
    bottom: u32,
    right: u32,
}

pub(super) fn cut_mix(
    cx: &Cx,
    launcher: &Launcher,
    x: &Tensor,
    partners: &[usize],
    window: &Window,
    y: &mut Tensor,
) -> Result<()> {
    let elems = size(x.shape().elems())?;
    let [_, height, width, channels] = x.shape().0.map(|n| n as u32);
    let Window { top, left, bottom, right } = *window;
    let [top, left, bottom, right] = [top, left, bottom, right].map(|n| n as u32);
    let params = Params { elems, height, width, channels, top, left, bottom, right };
    let partners: Vec<i32> = partners.iter().map(|partner| *partner as i32).collect();
    let partners = cx.upload_i32(Shape::matrix(partners.len(), 1), &partners)?;
    let pointers = [x.device(), partners.device(), y.device_mut()];
    let geometry = Geometry::cover(elems, vector::THREADS);
    launcher.launch(kernel!("cut_mix", x.dtype()), geometry, &pointers, &params)
}
