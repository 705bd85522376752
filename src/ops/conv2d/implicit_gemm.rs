//! Convolution by gathering: every output pixel is the sum, over the taps of a filter, of a
//! source pixel times a matrix. The microkernel reads source pixels where they lie, or, for
//! more than one tap, in a copy of a few rows with zeros around; the weight is packed once
//! for all pixels.

use std::ops::Range;

use rayon::prelude::*;

use super::window::Window;
use crate::ops::gemm::blocked::{SHARE_MACS, each_task};
use crate::ops::gemm::kernel::{self, Job, Kernel, MAX_MR, MAX_NR};
use crate::ops::gemm::pack::strided;
use crate::ops::gemm::scratch;
use crate::ops::gemm::target::Shared;
use crate::tensor::Real;

/// Depth at which a panel of the weight stays in the first-level cache.
const DEPTH: usize = 320;
/// Output pixels of a task: as many as share a pass over the weight.
const PIXELS: usize = 96;
/// The same and what fills up the last tile.
const MAX_PIXELS: usize = PIXELS + MAX_MR;
/// Most output channels of a task.
const LANES: usize = 512;
/// Tasks to aim for, and the least channels of one.
const TASKS: usize = 16;
const MIN_LANES: usize = 64;

/// A gathering convolution: output pixel (a, b) of the window's grid is the sum over its taps
/// of the source pixel, zeros where there is none, times the tap's matrix.
pub(super) struct Gather<'a, T> {
    /// Pixels to read.
    pub src: &'a [T],
    /// Which of them, for each output pixel.
    pub window: Window,
    /// The weight, which holds a matrix for each tap: source channels × lanes.
    pub weight: &'a [T],
    /// Where the matrix of each tap starts in the weight, in elements, row by row.
    pub matrices: Vec<usize>,
    /// Output channels.
    pub lanes: usize,
    /// From one output channel to the next in the weight, in elements.
    pub lane_stride: usize,
    /// From one source channel to the next in the weight, in elements.
    pub depth_stride: usize,
    /// Height and width of the destination, which has `lanes` channels.
    pub dst_size: [usize; 2],
    /// Where output pixel (0, 0) goes.
    pub dst_origin: [usize; 2],
    /// Destination pixels from one output pixel to the next.
    pub dst_step: usize,
    /// Whether to add to the destination.
    pub accumulate: bool,
}

/// A part of the depth for which a panel of the weight is read at a time.
struct Slab {
    /// Runs of neighbouring taps.
    runs: Range<usize>,
    /// Elements of each of them.
    part: Range<usize>,
    /// Where these start, from a pixel's first, in elements.
    offsets: Vec<usize>,
    /// Depth of all slabs before.
    before: usize,
}

impl Slab {
    fn depth(&self) -> usize {
        self.runs.len() * self.part.len()
    }
}

/// The weight, packed.
struct Packed<'a, T> {
    kernel: &'a Kernel<T>,
    slabs: Vec<Slab>,
    /// For every slab, its panels.
    weight: &'a [T],
    /// Columns of all panels together.
    padded: usize,
}

impl<T: Real> Gather<'_, T> {
    /// Computes all pixels of the grid into `dst`.
    pub(super) fn run(&self, dst: &mut [T]) {
        let Some(pixels) = self.begin(dst) else { return };
        let depth = self.matrices.len() * self.window.src[3];
        let kernel = kernel::fastest::<T>();
        let padded = kernel.padded(self.lanes);
        scratch::with(depth * padded, |weight: &mut [T]| {
            let slabs = slabs(&self.window);
            self.pack_weight(kernel, &slabs, weight);
            let packed = Packed { kernel, slabs, weight, padded };
            self.run_tasks(&packed, pixels, Shared(dst.as_mut_ptr()));
        });
    }

    /// Output pixels to compute, where there are some that taps reach; others are done.
    pub(super) fn begin(&self, dst: &mut [T]) -> Option<usize> {
        let [n, _, _, channels] = self.window.src;
        let pixels = n * self.window.grid[0] * self.window.grid[1];
        assert_eq!(dst.len(), n * self.dst_size[0] * self.dst_size[1] * self.lanes);
        assert_eq!(self.src.len(), self.window.src.iter().product::<usize>());
        if pixels == 0 || self.lanes == 0 {
            return None;
        }
        if self.matrices.len() * channels == 0 {
            self.run_empty(dst);
            return None;
        }
        Some(pixels)
    }

    /// Output pixels that no tap reaches.
    fn run_empty(&self, dst: &mut [T]) {
        if self.accumulate {
            return;
        }
        let ([h, w], [top, left]) = (self.dst_size, self.dst_origin);
        dst.par_chunks_mut(w * self.lanes).enumerate().for_each(|(row, pixels)| {
            if row % h % self.dst_step == top % self.dst_step {
                let pixels = pixels.chunks_exact_mut(self.lanes).skip(left).step_by(self.dst_step);
                pixels.for_each(|pixel| pixel.fill(T::zero()));
            }
        });
    }

    /// Where pixel (a, b) of image n lies in the destination, in elements.
    fn place(&self, n: usize, a: usize, b: usize) -> usize {
        let h = self.dst_origin[0] + a * self.dst_step;
        let w = self.dst_origin[1] + b * self.dst_step;
        ((n * self.dst_size[0] + h) * self.dst_size[1] + w) * self.lanes
    }

    fn pack_weight(&self, kernel: &Kernel<T>, slabs: &[Slab], out: &mut [T]) {
        let mut rest = out;
        let mut tasks = Vec::with_capacity(slabs.len() * self.lanes.div_ceil(kernel.nr));
        for slab in slabs {
            for lane in (0..self.lanes).step_by(kernel.nr) {
                let width = kernel.width(self.lanes - lane);
                let (out, after) = rest.split_at_mut(slab.depth() * width);
                rest = after;
                tasks.push((slab, lane..(lane + width).min(self.lanes), width, out));
            }
        }
        // An element takes about as long as sixteen multiplications.
        let each = slabs[0].depth() * kernel.nr * 16;
        tasks.into_par_iter().with_min_len(SHARE_MACS.div_ceil(each)).for_each(
            |(slab, lanes, width, mut out)| {
                for run in slab.runs.clone() {
                    let (now, after) = out.split_at_mut(slab.part.len() * width);
                    self.pack_panel(run, slab.part.clone(), lanes.clone(), width, now);
                    out = after;
                }
            },
        );
    }

    /// Packs a part of a run of taps.
    fn pack_panel(
        &self,
        run: usize,
        part: Range<usize>,
        lanes: Range<usize>,
        width: usize,
        out: &mut [T],
    ) {
        let channels = self.window.src[3];
        let strides = [self.lane_stride, self.depth_stride];
        let (mut at, mut out) = (part.start, out);
        while at < part.end {
            let (tap, channel) = (at / channels, at % channels);
            let len = (channels - channel).min(part.end - at);
            let (now, after) = out.split_at_mut(len * width);
            let matrix = self.matrices[run * self.window.taps_of_run() + tap];
            let from = matrix + channel * self.depth_stride + lanes.start * self.lane_stride;
            strided(&self.weight[from..], strides, [lanes.len(), len], width, now);
            (at, out) = (at + len, after);
        }
    }

    fn run_tasks(&self, packed: &Packed<T>, pixels: usize, dst: Shared<T>) {
        let blocks = pixels.div_ceil(PIXELS);
        let nr = packed.kernel.nr;
        let wanted = (self.lanes * blocks / TASKS).clamp(MIN_LANES, LANES);
        let lanes = self.lanes.div_ceil(self.lanes.div_ceil(wanted)).next_multiple_of(nr);
        let splits = self.lanes.div_ceil(lanes);
        let macs = PIXELS.min(pixels) * lanes * packed.weight.len() / packed.padded;
        each_task(blocks * splits, macs, |t| {
            let (first, lane) = (t / splits * PIXELS, t % splits * lanes);
            let pixels = first..(first + PIXELS).min(pixels);
            self.block(packed, pixels, lane..(lane + lanes).min(self.lanes), dst);
        });
    }

    /// Some output pixels in some of their channels.
    fn block(&self, packed: &Packed<T>, pixels: Range<usize>, lanes: Range<usize>, dst: Shared<T>) {
        let window = &self.window;
        let rows = pixels.start / window.cols()..(pixels.end - 1) / window.cols() + 1;
        let memory = packed.padded + window.copy_elems(&rows);
        scratch::with(memory, |memory: &mut [T]| {
            let (spare, copy) = memory.split_at_mut(packed.padded);
            spare.fill(T::zero());
            window.copy(self.src, rows.clone(), copy);
            let src = if window.in_place() { self.src } else { copy };
            let (from, to) = ([src.as_ptr(); MAX_PIXELS], [spare.as_mut_ptr(); MAX_PIXELS]);
            let mut pointers = Pointers { from, to };
            self.point(&mut pointers, src, rows, &pixels, dst);
            // SAFETY: all pointers are to whole runs of source pixels and to this task's own
            // output pixels, or the spare one.
            unsafe { self.multiply(packed, &pointers, pixels.len(), lanes) }
        })
    }

    /// Sets the pointers to what every output pixel reads and to where it goes.
    fn point(
        &self,
        pointers: &mut Pointers<T>,
        src: &[T],
        rows: Range<usize>,
        pixels: &Range<usize>,
        dst: Shared<T>,
    ) {
        let window = &self.window;
        let (cols, pixel) = (window.cols(), window.pixel());
        let mut at = 0;
        for (number, row) in rows.clone().zip(window.rows(rows)) {
            let first = pixels.start.max(number * cols) - number * cols;
            let end = pixels.end.min((number + 1) * cols) - number * cols;
            let last = row.start + (end - 1) * pixel;
            assert!(last + window.span() <= src.len(), "source pixels end too early");
            let (from, to) = (row.start + first * pixel, self.place(row.n, row.a, first));
            for i in 0..end - first {
                // SAFETY: the last pixel's last run ends within the source, and pixels of the
                // grid lie in the destination.
                unsafe {
                    pointers.from[at] = src.as_ptr().add(from + i * pixel);
                    pointers.to[at] = dst.get().add(to + i * self.dst_step * self.lanes);
                }
                at += 1;
            }
        }
    }

    /// The product of the block's pixels and the packed weight.
    unsafe fn multiply(
        &self,
        packed: &Packed<T>,
        pointers: &Pointers<T>,
        pixels: usize,
        lanes: Range<usize>,
    ) {
        let kernel = packed.kernel;
        for slab in &packed.slabs {
            let add = self.accumulate || slab.before > 0;
            let weight = &packed.weight[slab.before * packed.padded..];
            for lane in lanes.clone().step_by(kernel.nr) {
                let left = self.lanes - lane;
                let width = kernel.width(left);
                let panel = &weight[slab.depth() * lane..][..slab.depth() * width];
                for first in (0..pixels).step_by(kernel.mr) {
                    let job = Job {
                        rows: pointers.from[first..].as_ptr(),
                        offsets: slab.offsets.as_ptr(),
                        taps: slab.runs.len(),
                        len: slab.part.len(),
                        stride: 1,
                        b: panel.as_ptr(),
                        c: pointers.to[first..].as_ptr(),
                        c_offset: lane,
                        alpha: T::one(),
                        beta: if add { T::one() } else { T::zero() },
                    };
                    // SAFETY: the job's rows, columns and weights lie within the tensors that it was made from; tiles
                    // of C are written by one task each.
                    unsafe {
                        if left >= width {
                            kernel.run(width, &job);
                        } else {
                            run_aside(kernel, width, &job, (pixels - first).min(kernel.mr), left);
                        }
                    }
                }
            }
        }
    }
}

/// Pointers for a block of output pixels. Those beyond the last pixel keep what they start
/// with: some source pixel and a spare place.
struct Pointers<T> {
    from: [*const T; MAX_PIXELS],
    to: [*mut T; MAX_PIXELS],
}

/// Runs a job of which only `rows` × `cols` may be written.
unsafe fn run_aside<T: Real>(
    kernel: &Kernel<T>,
    width: usize,
    job: &Job<T>,
    rows: usize,
    cols: usize,
) {
    let mut tile = [T::zero(); MAX_MR * MAX_NR];
    let tile = tile.as_mut_ptr();
    // SAFETY: `tile` has room for MAX_MR rows of `width`, and rows and columns of C that are added to
    // are inside it, as the caller promises.
    unsafe {
        let c: [*mut T; MAX_MR] = std::array::from_fn(|i| tile.add(i * width));
        kernel.run(width, &Job { c: c.as_ptr(), c_offset: 0, beta: T::zero(), ..*job });
        for (i, row) in c.iter().enumerate().take(rows) {
            let out = (*job.c.add(i)).add(job.c_offset);
            for j in 0..cols {
                let value = *row.add(j);
                *out.add(j) = if job.beta == T::zero() { value } else { value + *out.add(j) };
            }
        }
    }
}

/// Cuts the depth of a window's runs of taps into the fewest slabs of at most [`DEPTH`]: each
/// takes the same part of some of the runs.
fn slabs(window: &Window) -> Vec<Slab> {
    let (runs, run) = (window.runs(), window.run());
    let runs_of = |parts: usize| (DEPTH / run.div_ceil(parts)).clamp(1, runs);
    let least = run.div_ceil(DEPTH);
    let parts = (least..=least * runs)
        .min_by_key(|&parts| (parts * runs.div_ceil(runs_of(parts)), parts))
        .unwrap_or(least);
    let (part, step) = (run.div_ceil(parts), runs_of(parts));
    let mut slabs = Vec::new();
    let mut before = 0;
    for part in (0..run).step_by(part).map(|at| at..(at + part).min(run)) {
        for runs in (0..runs).step_by(step).map(|at| at..(at + step).min(runs)) {
            let offsets = runs.clone().map(|r| window.run_offset(r) + part.start).collect();
            let slab = Slab { runs, part: part.clone(), offsets, before };
            before += slab.depth();
            slabs.push(slab);
        }
    }
    slabs
}
