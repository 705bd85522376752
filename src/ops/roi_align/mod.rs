//! Regions of feature maps, resampled to one size.

mod axis;
mod cases;
mod cpu;
mod kernels;

use super::{Case, Grad, Op, Saved, expect_mixed, expect_shape, remember_meta, remembered_meta};
use crate::cx::{Cx, Exec};
use crate::error::{Error, Result};
use crate::tensor::{Meta, Real, Shape, Tensor};

/// The op: each region of interest as `size` × `size` bins of the map of its level, bilinear. It is
/// detectron2's `ROIAlign(aligned=True, sampling_ratio=0)`.
///
/// Inputs: a map `[N,Hₗ,Wₗ,C]` for each of `scales`; then rois `[R,1,1,6]` of the maps'
/// [`DType::accumulation`](crate::tensor::DType::accumulation), constant, each row image, level,
/// x1, y1, x2, y2 with coordinates in pixels of the image, sorted by image, then level. Output:
/// `[R,size,size,C]` of the maps' type.
///
/// A RoI is scaled and moved by half a pixel: from s·x1 − ½ to s·x2 − ½. A bin is the mean of
/// ⌈bin⌉ samples an axis at even distances. A sample is bilinear in the four positions around it;
/// it is 0 below −1 and above the map's size, and clamped to the map between. So an output is
/// separable: y\[r\] = A f Bᵀ, with a row of A for each row of bins. A RoI without height or width
/// has no samples and gives 0. The gradient of a position sums over the RoIs of its image and level
/// in their order. Saves the rois alone.
///
/// # Errors
/// [`Kind::Data`](crate::Kind::Data) on the CPU for rois that are not sorted, whose image or level
/// is not there, and coordinates beyond ±2²⁰ or not finite. A device, for which the host does not
/// wait, gives NaN for these (but does not see whether rois are sorted), and no gradient.
#[derive(Clone, Debug)]
pub struct RoiAlign {
    /// Rows and columns of bins.
    pub size: usize,
    /// For each level, positions of the map per pixel of the image: 1 / stride.
    pub scales: Vec<f64>,
}

impl RoiAlign {
    /// Fails on rois that the maps cannot be read with.
    fn check<T: Real>(&self, rois: &[T], images: usize) -> Result<()> {
        let levels = self.scales.len();
        let mut before = (0, 0);
        for (row, values) in rois.chunks_exact(axis::ROI).enumerate() {
            let whole =
                |x: T, end: usize| x.to_usize().filter(|i| *i < end && T::of(*i as f64) == x);
            let group = whole(values[0], images).zip(whole(values[1], levels));
            let inside = values[2..].iter().all(|x| x.f64().abs() <= axis::MOST);
            match group {
                Some(group) if inside && group >= before => before = group,
                _ => {
                    return Err(Error::data(format!(
                        "expected rois (image, level, x1, y1, x2, y2) of {images} images and \
                         {levels} levels, sorted by image and level; found {values:?} in row {row}"
                    )));
                }
            }
        }
        Ok(())
    }
}

impl Op for RoiAlign {
    const NAME: &'static str = "roi_align";

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
        let Self { size, scales } = self;
        if *size == 0 || scales.is_empty() || !scales.iter().all(|s| *s > 0.0 && s.is_finite()) {
            return Err(Error::usage(format!(
                "expected a size of at least 1 and scales above 0, found {size} and {scales:?}"
            )));
        }
        let names = [vec!["a map"; scales.len()], vec!["rois"]].concat();
        expect_mixed(inputs, &names, &["rois"])?;
        let (maps, rois) = inputs.split_at(scales.len());
        let [n, _, _, c] = maps[0].shape.0;
        for map in maps {
            let [_, h, w, _] = map.shape.0;
            expect_shape("a map", map.shape, Shape::nhwc(n, h, w, c))?;
        }
        let rows = rois[0].shape.n();
        expect_shape("rois", rois[0].shape, Shape::matrix(rows, axis::ROI))?;
        Ok(Meta::new(Shape::nhwc(rows, *size, *size, c), maps[0].dtype))
    }

    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)> {
        let (maps, rois) = inputs.split_at(self.scales.len());
        let (rois, c) = (rois[0], maps[0].shape().c());
        let shape = Shape::nhwc(rois.shape().n(), self.size, self.size, c);
        let mut y = cx.alloc(Meta::new(shape, maps[0].dtype()))?;
        match cx.exec(Self::NAME) {
            Exec::DryRun => {}
            Exec::Cpu => crate::dispatch!(y.dtype(), T => {
                self.check::<T>(rois.host(), maps[0].shape().n())?;
                let maps: Vec<_> = maps.iter().map(|m| (m.shape(), m.host::<T>())).collect();
                cpu::forward(self, &maps, rois.host(), y.host_mut());
            }),
            Exec::Device(launcher) => kernels::forward(self, &launcher, maps, rois, &mut y)?,
        }
        let mut saved = vec![rois.clone()];
        for map in maps {
            saved.extend(remember_meta(cx, map)?);
        }
        Ok((y, saved))
    }

    fn backward(&self, cx: &Cx, saved: Saved, gy: Tensor, grads: &mut [Grad]) -> Result<()> {
        let rois = &saved[0];
        let maps: Vec<Meta> = saved[1..].chunks_exact(2).map(remembered_meta).collect();
        if grads[self.scales.len()].needed() {
            return Err(Error::usage("rois are constants: no gradient"));
        }
        let starts = match cx.exec(Self::NAME) {
            Exec::Device(l) => Some(kernels::starts(self, cx, &l, rois, maps[0].shape)?),
            _ => None,
        };
        for (level, (map, grad)) in maps.iter().zip(grads).enumerate() {
            grad.write(cx, *map, |gx, accumulate| {
                match (cx.exec(Self::NAME), &starts) {
                    (Exec::Cpu, _) => {
                        if !accumulate {
                            cx.clear(gx)?;
                        }
                        crate::dispatch!(gx.dtype(), T => {
                            let (rois, gy) = (rois.host(), gy.host::<T>());
                            cpu::backward(self, level, rois, gy, map.shape, gx.host_mut());
                        });
                    }
                    (Exec::Device(launcher), Some(starts)) => {
                        let read = [rois, starts, &gy];
                        kernels::backward(self, &launcher, level, read, gx, accumulate)?;
                    }
                    _ => {}
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn cases() -> Vec<Case<Self>> {
        cases::all()
    }
}
