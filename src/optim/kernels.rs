//! Launches of `kernels/sgd.cu`: all parameters in one.

use bytemuck::NoUninit;

use super::Sgd;
use super::sgd::Rates;
use crate::cx::Cx;
use crate::device::{Geometry, Launcher, size};
use crate::error::{Error, Result};
use crate::nn::{Gradients, Params};
use crate::ops::multi_tensor::{CHUNK, count_chunks};
use crate::ops::vector::THREADS;
use crate::tensor::DType::{self, BF16, F32};
use crate::tensor::Tensor;

/// `SgdSpan`: one parameter. Addresses of what is not there are 0.
#[derive(Clone, Copy, Debug, Default, NoUninit)]
#[repr(C)]
struct Span {
    weight: u64,
    gradient: u64,
    velocity: u64,
    teacher: u64,
    weight_copy: u64,
    teacher_copy: u64,
    elems: u32,
    first_chunk: u32,
    decay: f32,
    /// What the learning rate is multiplied by.
    rate: f32,
}

/// `SgdParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct LaunchParams {
    spans: u32,
    chunk: u32,
    momentum: f32,
    lr: f32,
    keep: f32,
    take: f32,
}

/// A step of SGD.
pub(super) struct Step<'a> {
    pub sgd: &'a Sgd,
    pub rates: &'a Rates<'a>,
    pub grads: &'a mut Gradients,
    pub velocity: &'a mut [Tensor],
}

/// SGD.
pub(super) fn update(cx: &Cx, launcher: &Launcher, params: &mut Params, step: Step) -> Result<()> {
    let mut spans = Spans::new(params)?;
    for (i, (span, decay)) in spans.all.iter_mut().zip(step.sgd.decays(params)).enumerate() {
        (span.decay, span.rate) = (decay as f32, step.rates.factor(i) as f32);
    }
    let (values, copies) = params.values_and_copies();
    spans.set(F32, values.iter_mut().map(Some), |span| &mut span.weight)?;
    spans.set(F32, step.grads.all_mut().map(Some), |span| &mut span.gradient)?;
    spans.set(F32, step.velocity.iter_mut().map(Some), |span| &mut span.velocity)?;
    spans.set(BF16, copies.iter_mut().map(Option::as_mut), |span| &mut span.weight_copy)?;
    spans.launch(cx, launcher, "sgd_update_f32", step.sgd.momentum, step.rates.lr, 1.0)
}

/// The moving average.
pub(super) fn ema(
    cx: &Cx,
    launcher: &Launcher,
    teacher: &mut Params,
    student: &Params,
    keep: f64,
) -> Result<()> {
    let mut spans = Spans::new(teacher)?;
    for (span, w) in spans.all.iter_mut().zip(student.values()) {
        expect_type(F32, w)?;
        span.weight = w.device().0;
    }
    let (values, copies) = teacher.values_and_copies();
    spans.set(F32, values.iter_mut().map(Some), |span| &mut span.teacher)?;
    spans.set(BF16, copies.iter_mut().map(Option::as_mut), |span| &mut span.teacher_copy)?;
    spans.launch(cx, launcher, "sgd_ema_f32", 0.0, 0.0, keep)
}

/// The table of all parameters.
struct Spans {
    all: Vec<Span>,
    chunks: u32,
}

impl Spans {
    /// Sizes alone.
    fn new(params: &Params) -> Result<Self> {
        let mut spans = Self { all: Vec::with_capacity(params.values().len()), chunks: 0 };
        for w in params.values() {
            let elems = size(w.shape().elems())?;
            spans.all.push(Span { elems, first_chunk: spans.chunks, ..Span::default() });
            spans.chunks = count_chunks(spans.chunks, elems)?;
        }
        Ok(spans)
    }

    /// Notes where tensors lie that are written, of those parameters that have one.
    fn set<'a>(
        &mut self,
        dtype: DType,
        tensors: impl Iterator<Item = Option<&'a mut Tensor>>,
        field: impl Fn(&mut Span) -> &mut u64,
    ) -> Result<()> {
        for (span, t) in self.all.iter_mut().zip(tensors) {
            let Some(t) = t else { continue };
            expect_type(dtype, t)?;
            *field(span) = t.device_mut().0;
        }
        Ok(())
    }

    /// Does nothing where there is no parameter.
    fn launch(
        &self,
        cx: &Cx,
        launcher: &Launcher,
        name: &str,
        momentum: f64,
        lr: f64,
        keep: f64,
    ) -> Result<()> {
        if self.all.is_empty() {
            return Ok(());
        }
        let params = LaunchParams {
            spans: size(self.all.len())?,
            chunk: CHUNK,
            momentum: momentum as f32,
            lr: lr as f32,
            keep: keep as f32,
            take: (1.0 - keep) as f32,
        };
        let table = cx.table(&self.all)?;
        launcher.launch(name, Geometry::linear(self.chunks, THREADS), &[table.device()], &params)
    }
}

fn expect_type(expected: DType, t: &Tensor) -> Result<()> {
    if t.dtype() == expected {
        return Ok(());
    }
    Err(Error::usage(format!("the optimizer expected a tensor of {expected:?}, found {t:?}")))
}
