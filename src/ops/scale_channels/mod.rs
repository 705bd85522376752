//! Each channel of each image times a factor, as in dropout of whole channels.

mod cases;
mod cpu;
mod kernels;

use super::{Case, Grad, Op, Saved, expect_mixed, expect_shape, unshared};
use crate::cx::{Cx, Exec};
use crate::error::{Error, Result};
use crate::rng::{Philox, Purpose};
use crate::tensor::{Meta, Shape, Tensor};

/// The op. Inputs: x `[N,H,W,C]`; s `[N,1,1,C]` of type
/// [`DType::accumulation`](crate::tensor::DType::accumulation), constant. Output: x·s, of x's shape
/// and type. Saves s. With a mask of [`dropout2d`] it is Dropout2d (Tompson et al., "Efficient object
/// localization using convolutional networks", 2015).
#[derive(Clone, Copy, Debug)]
pub struct ScaleChannels;

/// A mask for [`ScaleChannels`], `images` × `channels`: 0 with probability `p`, else 1/(1 − p). It is
/// a function of the seed, the step and the number of the layer.
pub fn dropout2d(
    seed: u64,
    step: u64,
    which: u16,
    images: usize,
    channels: usize,
    p: f64,
) -> Vec<f32> {
    let mut rng = Philox::new(seed, Purpose::Dropout, step, which);
    let kept = (1.0 / (1.0 - p)) as f32;
    (0..images * channels).map(|_| if rng.chance(p as f32) { 0.0 } else { kept }).collect()
}

impl Op for ScaleChannels {
    const NAME: &'static str = "scale_channels";

    fn infer(&self, inputs: &[Meta]) -> Result<Meta> {
        expect_mixed(inputs, &["x", "s"], &["s"])?;
        let x = inputs[0].shape;
        expect_shape("s", inputs[1].shape, Shape::matrix(x.n(), x.c()))?;
        Ok(inputs[0])
    }

    fn forward(&self, cx: &Cx, inputs: &[&Tensor]) -> Result<(Tensor, Saved)> {
        let (x, s) = (inputs[0], inputs[1]);
        let mut y = cx.alloc(x.meta())?;
        match cx.exec(Self::NAME) {
            Exec::DryRun => {}
            Exec::Cpu => crate::dispatch!(x.dtype(), T => {
                cpu::forward(x.shape(), x.host::<T>(), s.host(), y.host_mut())
            }),
            Exec::Device(launcher) => kernels::forward(&launcher, x, s, &mut y)?,
        }
        Ok((y, vec![s.clone()]))
    }

    fn backward(&self, cx: &Cx, saved: Saved, gy: Tensor, grads: &mut [Grad]) -> Result<()> {
        if grads[1].needed() {
            return Err(Error::usage("the factors are constants: no gradient"));
        }
        let (mut gy, s) = (unshared(cx, gy)?, &saved[0]);
        match cx.exec(Self::NAME) {
            Exec::DryRun => {}
            Exec::Cpu => crate::dispatch!(gy.dtype(), T => {
                cpu::backward(gy.shape(), s.host::<T>(), gy.host_mut())
            }),
            Exec::Device(launcher) => kernels::backward(&launcher, s, &mut gy)?,
        }
        grads[0].put(cx, gy)
    }

    fn cases() -> Vec<Case<Self>> {
        cases::all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_keep_their_share_and_their_mean() {
        let mask = dropout2d(3, 7, 0, 200, 500, 0.25);
        assert!(mask.iter().all(|m| *m == 0.0 || *m == (4.0f64 / 3.0) as f32));
        let dropped = mask.iter().filter(|m| **m == 0.0).count() as f64 / 1e5;
        // Three standard deviations are 0.004.
        assert!((dropped - 0.25).abs() < 0.005, "{dropped}");
        assert_eq!(dropout2d(3, 7, 0, 2, 5, 0.0), [1.0; 10]);
        assert_eq!(dropout2d(3, 7, 0, 2, 5, 1.0), [0.0; 10]);
    }

    #[test]
    fn masks_are_those_of_their_step_and_layer() {
        let mask = |seed, step, which| dropout2d(seed, step, which, 2, 64, 0.5);
        assert_eq!(mask(1, 2, 3), mask(1, 2, 3));
        for other in [mask(2, 2, 3), mask(1, 3, 3), mask(1, 2, 4)] {
            assert_ne!(other, mask(1, 2, 3));
        }
    }
}
