//! How batch normalisation cuts its input: into groups of images, which share statistics,
//! and groups into parts, which threads take. A function of the shape alone.

use std::ops::Range;

use rayon::prelude::*;

use crate::ops::passes::SERIAL;
use crate::tensor::{Real, Shape};

/// Elements of a part: 256 KiB of f32, so that the second reading of a wide row hits a cache.
const PART: usize = 64 * 1024;
/// Channels are repeated until a row has at least this many elements: inner loops stay long.
const WIDE: usize = 64;

/// How x is cut: groups of images, and parts of groups.
pub(super) struct Layout {
    pub(super) elems: usize,
    pub(super) channels: usize,
    /// Elements of a full group.
    group: usize,
    /// Elements of a full part.
    part: usize,
    /// Parts of a full group.
    pub(super) parts: usize,
    pub(super) groups: usize,
    /// Elements of a wide row: several rows, channels repeating.
    pub(super) wide: usize,
}

impl Layout {
    pub(super) fn new(shape: Shape, images: usize) -> Self {
        let channels = shape.c();
        let group_rows = images * shape.positions();
        let fold = WIDE.div_ceil(channels);
        // Whole blocks of four wide rows.
        let part_rows = (PART / channels).max(1).next_multiple_of(4 * fold).min(group_rows);
        Self {
            elems: shape.elems(),
            channels,
            group: group_rows * channels,
            part: part_rows * channels,
            parts: group_rows.div_ceil(part_rows),
            groups: shape.n().div_ceil(images),
            wide: fold * channels,
        }
    }

    /// Elements of group `g`.
    pub(super) fn group(&self, g: usize) -> Range<usize> {
        g * self.group..((g + 1) * self.group).min(self.elems)
    }

    /// Elements of part `t`, of `groups`·`parts`; empty past the end of a short last group.
    pub(super) fn part(&self, t: usize) -> Range<usize> {
        let group = self.group(t / self.parts);
        let start = group.start + t % self.parts * self.part;
        start.min(group.end)..(start + self.part).min(group.end)
    }

    /// Calls `f(group, elements, part of out, part's share of sums)` for all parts of `out`.
    /// `sums` has `share` elements for each part.
    pub(super) fn each_part<A: Send, B: Send>(
        &self,
        out: &mut [A],
        sums: &mut [B],
        share: usize,
        f: impl Fn(usize, Range<usize>, &mut [A], &mut [B]) + Send + Sync,
    ) {
        let part = |g: usize, i: usize, out: &mut [A], sums: &mut [B]| {
            let start = g * self.group + i * self.part;
            f(g, start..start + out.len(), out, sums);
        };
        let group_sums = share * self.parts;
        if self.elems < SERIAL {
            let groups = out.chunks_mut(self.group).zip(sums.chunks_mut(group_sums));
            groups.enumerate().for_each(|(g, (out, sums))| {
                let parts = out.chunks_mut(self.part).zip(sums.chunks_mut(share));
                parts.enumerate().for_each(|(i, (out, sums))| part(g, i, out, sums));
            });
        } else {
            let groups = out.par_chunks_mut(self.group).zip(sums.par_chunks_mut(group_sums));
            groups.enumerate().for_each(|(g, (out, sums))| {
                let parts = out.par_chunks_mut(self.part).zip(sums.par_chunks_mut(share));
                parts.enumerate().for_each(|(i, (out, sums))| part(g, i, out, sums));
            });
        }
    }

    /// The parts' sums (two per channel), added in order for each group.
    pub(super) fn total(&self, sums: &[f64]) -> Vec<f64> {
        let share = 2 * self.channels;
        let mut total = vec![0.0; self.groups * share];
        for (t, part) in sums.chunks(share).enumerate() {
            let total = &mut total[t / self.parts * share..][..share];
            total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
        }
        total
    }
}

/// Values per channel, repeated to a wide row.
pub(super) fn repeat<T: Real>(layout: &Layout, values: impl Fn(usize) -> f64) -> Vec<T> {
    (0..layout.wide).map(|i| T::of(values(i % layout.channels))).collect()
}
