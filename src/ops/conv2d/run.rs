//! The products of a convolution and its bias's gradient on whatever a context computes on. A
//! transposed convolution, `conv_transpose2d`, is made of them too.

use super::{Geometry, cpu, kernels, narrow, wgrad};
use crate::cx::{Cx, Exec};
use crate::dispatch;
use crate::error::Result;
use crate::ops::bias;
use crate::tensor::{Real, Tensor};

/// What a product is added to.
#[derive(Clone, Copy)]
pub(in crate::ops) enum Onto<'a> {
    /// Nothing.
    Nothing,
    /// A bias with at least as many elements as the result has channels.
    Bias(&'a Tensor),
    /// What is there.
    Target,
}

impl<'a> Onto<'a> {
    /// A bias, where there is one.
    pub(in crate::ops) fn bias(bias: Option<&'a Tensor>) -> Self {
        bias.map_or(Self::Nothing, Self::Bias)
    }

    /// What is there, where something is accumulated.
    pub(in crate::ops) fn target(accumulate: bool) -> Self {
        if accumulate { Self::Target } else { Self::Nothing }
    }

    /// Puts a bias into the pixels of `out`; whether the product is then added to these.
    fn begin<T: Real>(&self, channels: usize, out: &mut [T]) -> bool {
        if let Self::Bias(bias) = self {
            cpu::fill_bias(channels, bias.host(), out);
        }
        !matches!(self, Self::Nothing)
    }
}

/// `y` from `x` and `w`, for the op named `op`.
pub(in crate::ops) fn fprop(
    cx: &Cx,
    op: &str,
    g: &Geometry,
    [x, w]: [&Tensor; 2],
    onto: Onto,
    y: &mut Tensor,
) -> Result<()> {
    match cx.exec(op) {
        Exec::DryRun => {}
        Exec::Cpu if cx.rounds_operands(x) => {
            let add = onto.begin::<f32>(g.cout, y.host_mut());
            cpu::fprop(g, x.host(), w.host(), add).run_narrow(y.host_mut());
        }
        Exec::Cpu => dispatch!(x.dtype(), T => {
            let add = onto.begin::<T>(g.cout, y.host_mut());
            cpu::fprop::<T>(g, x.host(), w.host(), add).run(y.host_mut());
        }),
        Exec::Device(launcher) => kernels::fprop(g, &launcher, [x, w], onto, y)?,
    }
    Ok(())
}

/// `gx`, the gradient of `x`, from `gy`, that of `y`, and `w`.
pub(in crate::ops) fn dgrad(
    cx: &Cx,
    op: &str,
    g: &Geometry,
    [gy, w]: [&Tensor; 2],
    onto: Onto,
    gx: &mut Tensor,
) -> Result<()> {
    match cx.exec(op) {
        Exec::DryRun => {}
        Exec::Cpu if cx.rounds_operands(gy) => {
            let add = onto.begin::<f32>(g.cin, gx.host_mut());
            let gathers = cpu::dgrad(g, gy.host(), w.host(), add);
            gathers.for_each(|gather| gather.run_narrow(gx.host_mut()));
        }
        Exec::Cpu => dispatch!(gy.dtype(), T => {
            let add = onto.begin::<T>(g.cin, gx.host_mut());
            let gathers = cpu::dgrad::<T>(g, gy.host(), w.host(), add);
            gathers.for_each(|gather| gather.run(gx.host_mut()));
        }),
        Exec::Device(launcher) => kernels::dgrad(g, &launcher, [gy, w], onto, gx)?,
    }
    Ok(())
}

/// Adds the gradient of the active part of `w` to `gw`; where there is nothing in it yet
/// (`accumulate` false) the rest becomes 0.
pub(in crate::ops) fn wgrad(
    cx: &Cx,
    op: &str,
    g: &Geometry,
    [x, gy]: [&Tensor; 2],
    gw: &mut Tensor,
    accumulate: bool,
) -> Result<()> {
    match cx.exec(op) {
        Exec::DryRun => {}
        Exec::Cpu => {
            if !accumulate {
                cx.clear(gw)?;
            }
            match cx.rounds_operands(gw) {
                true => narrow::wgrad(g, x.host(), gy.host(), gw.host_mut()),
                false => dispatch!(gw.dtype(), T => {
                    wgrad::wgrad::<T>(g, x.host(), gy.host(), gw.host_mut())
                }),
            }
        }
        Exec::Device(launcher) => kernels::wgrad(g, cx, &launcher, [x, gy], gw, accumulate)?,
    }
    Ok(())
}

/// The same for a bias: adds the sums of `gy` over its pixels.
pub(in crate::ops) fn bias_gradient(
    cx: &Cx,
    op: &str,
    gy: &Tensor,
    gb: &mut Tensor,
    accumulate: bool,
) -> Result<()> {
    match cx.exec(op) {
        Exec::DryRun => {}
        Exec::Cpu => {
            if !accumulate {
                cx.clear(gb)?;
            }
            dispatch!(gb.dtype(), T => {
                cpu::bias_grad::<T>(gy.shape().c(), gy.host(), gb.host_mut())
            });
        }
        Exec::Device(launcher) => bias::gradient(cx, &launcher, gy, gb, accumulate)?,
    }
    Ok(())
}
