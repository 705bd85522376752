//! Products of operands that are rounded to bf16 as they are packed, with sums in f32.
//!
//! A panel is cut into steps of 32 depths and tiles of 16 lanes, each a KiB, as a processor's
//! matrix unit loads them: of A *rows*, a lane's 32 depths one after the other; of B *pairs*,
//! two depths of all 16 lanes, then the next two. The same in dwords, transposed, so either is
//! made of the other. Panels are 32 lanes wide, the last one of B 16 where that is enough.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
mod dot;
mod pack;
mod round;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::OnceLock;

use half::bf16;

use super::scratch;
use super::target::{Microkernel, Panel, Target};
pub(crate) use pack::{Lanes, Packed, Pairs, Rows, Transposed, groups};
pub(crate) use round::rows as round_rows;

/// Lanes of a tile.
pub(crate) const TILE_LANES: usize = 16;
/// Lanes of a panel.
const WIDTH: usize = 2 * TILE_LANES;
/// Depth of a tile.
pub(crate) const STEP: usize = 32;
/// Elements of a tile.
const TILE: usize = TILE_LANES * STEP;

/// The work of one call: 32 rows of A times 16 or 32 columns of B, added to a tile of C.
struct Job<'a> {
    /// Panel of A.
    a: *const bf16,
    /// Panel of B.
    b: *const bf16,
    /// Steps of both.
    steps: usize,
    /// Columns of B's panel.
    width: usize,
    /// Where the product goes.
    target: &'a Target<f32>,
    /// Rows of C.
    rows: Range<usize>,
    /// Columns of C.
    cols: Range<usize>,
    /// Where its first row is, if the columns are all there and neighbours.
    direct: Option<*mut f32>,
}

impl Job<'_> {
    /// Where the tile lies in C and whether the product is added to what is there, if all of it
    /// is there and no factor remains.
    #[inline(always)]
    fn whole(&self) -> Option<(*mut f32, bool)> {
        let Target { alpha, beta, .. } = *self.target;
        let plain = alpha == 1.0 && (beta == 0.0 || beta == 1.0);
        self.direct.filter(|_| plain && self.rows.len() == WIDTH).map(|c| (c, beta != 0.0))
    }

    /// Writes the product, whose rows are a panel's width apart, to C.
    #[inline(always)]
    unsafe fn write(&self, product: *const f32) {
        let (rows, cols) = (self.rows.clone(), self.cols.clone());
        // SAFETY: the caller promises a whole product; rows and columns are this job's own.
        unsafe { self.target.write_tile(product, WIDTH, rows, cols) }
    }
}

/// The kernel of an instruction set.
pub(crate) struct Kernel {
    run: unsafe fn(&Job),
    /// What goes before the tiles of a block, and after.
    around: [fn(); 2],
    /// Instruction set.
    pub name: &'static str,
}

impl Microkernel<f32> for Kernel {
    type E = bf16;
    /// A panel takes 32 KiB.
    const DEPTH: usize = 512;
    const MIN_PART: usize = 2048;
    const STEP: usize = STEP;

    fn rows(&self) -> usize {
        WIDTH
    }
    fn cols(&self) -> usize {
        WIDTH
    }
    fn width(&self, left: usize) -> usize {
        width(left)
    }
    /// Blocks of about the same depth: a short one costs C another pass for little.
    fn block_depth(&self, part: usize) -> usize {
        part.div_ceil(part.div_ceil(Self::DEPTH)).next_multiple_of(STEP)
    }
    fn ready(&self, tiles: impl FnOnce()) {
        let [before, after] = self.around;
        before();
        tiles();
        after();
    }

    #[inline]
    unsafe fn tile(
        &self,
        target: &Target<f32>,
        panel: &Panel<bf16>,
        a: &[bf16],
        rows: Range<usize>,
    ) {
        let job = Job {
            a: a.as_ptr(),
            b: panel.b.as_ptr(),
            steps: panel.depth / STEP,
            width: panel.width,
            target,
            // SAFETY: the tile lies in C.
            direct: panel.direct.map(|place| unsafe { target.at(rows.start, place) }),
            rows,
            cols: panel.cols.clone(),
        };
        // SAFETY: kernels are only handed out where their instructions were detected.
        unsafe { (self.run)(&job) }
    }
}

/// Width of the panel of B that starts where `left` columns are left.
fn width(left: usize) -> usize {
    if left <= TILE_LANES { TILE_LANES } else { WIDTH }
}

/// All kernels that this machine can run, the fastest first.
pub(crate) fn all() -> &'static [Kernel] {
    static FOUND: OnceLock<Vec<Kernel>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let mut found = Vec::new();
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        found.extend(amx::detected());
        found.extend(dot::detected());
        found
    })
}

/// The fastest kernel that this machine can run.
pub(crate) fn fastest() -> &'static Kernel {
    &all()[0]
}

/// Calls `f` with an operand that was packed as a whole, for a product whose blocks all read
/// it: `lanes` × `depth` elements of `b`.
pub(crate) fn with_packed<R>(
    b: &dyn super::Pack<bf16>,
    lanes: usize,
    depth: usize,
    f: impl FnOnce(&Packed) -> R,
) -> R {
    let rest = lanes % WIDTH;
    let padded = lanes - rest + if rest > 0 { width(rest) } else { 0 };
    scratch::with(padded * depth.next_multiple_of(STEP), |panels: &mut [bf16]| {
        let packed = Packed::new(b, lanes, depth, panels);
        f(&packed)
    })
}
