//! Binary cross-entropy in native code.

use crate::error::{Error, Result};
use crate::ops::CHUNK;
use crate::ops::passes::chunks_mut;
use crate::tensor::{Real, Shape};

/// Pixels of rows, each with the channel that counts.
pub(super) struct Pixels<'a> {
    /// Pixels of a row.
    positions: usize,
    channels: usize,
    select: Option<&'a [i32]>,
}

impl<'a> Pixels<'a> {
    /// Fails on a selected channel that is not there.
    pub(super) fn new(x: Shape, select: Option<&'a [i32]>) -> Result<Self> {
        let channels = x.c();
        let is_there = |c: &i32| usize::try_from(*c).is_ok_and(|c| c < channels);
        let all = select.unwrap_or_default().iter().enumerate();
        if let Some((row, wrong)) = all.into_iter().find(|(_, c)| !is_there(c)) {
            return Err(Error::data(format!(
                "expected selected channels from 0 to below {channels}; found {wrong} in row {row}"
            )));
        }
        Ok(Self { positions: x.positions(), channels, select })
    }

    /// The channel that counts in a pixel.
    fn channel(&self, pixel: usize) -> usize {
        self.select.map_or(0, |select| select[pixel / self.positions] as usize)
    }

    /// Sum of the losses: parts of fixed size in f64, added in order.
    pub(super) fn loss<T: Real>(&self, x: &[T], targets: &[T]) -> f64 {
        let mut parts = vec![0.0; targets.len().div_ceil(CHUNK)];
        chunks_mut(targets.len(), &mut parts, 1, |i, part| {
            let targets = targets.iter().enumerate().skip(i * CHUNK).take(CHUNK);
            let losses = targets.map(|(pixel, t)| {
                let x = x[pixel * self.channels + self.channel(pixel)];
                (x.max(T::zero()) - x * *t + (-x.abs()).exp().ln_1p()).f64()
            });
            part[0] = losses.sum();
        });
        parts.iter().sum()
    }

    /// gx = g · (σ(x) − t) in the channels that count, 0 in others.
    pub(super) fn gradient<T: Real>(&self, x: &[T], targets: &[T], g: T, gx: &mut [T]) {
        let c = self.channels;
        let pixels = (CHUNK / c).max(1);
        chunks_mut(x.len(), gx, pixels * c, |i, gx| {
            gx.fill(T::zero());
            for (k, gx) in gx.chunks_exact_mut(c).enumerate() {
                let pixel = i * pixels + k;
                let channel = self.channel(pixel);
                let share = T::one() / (T::one() + (-x[pixel * c + channel]).exp());
                gx[channel] = g * (share - targets[pixel]);
            }
        });
    }
}
