//! From f32 to tiles of bf16: to the nearest, to even where two are as near.

use half::bf16;
use half::slice::HalfFloatSliceExt;

use super::{STEP, TILE, TILE_LANES};

/// Rounds neighbours to the rows of tiles: group g of 32 to `out[g · stride..]`, the last one
/// filled up with zeros.
pub(crate) fn rows(src: &[f32], out: &mut [bf16], stride: usize) {
    let groups = src.len().div_ceil(STEP);
    assert!(groups == 0 || (groups - 1) * stride + STEP <= out.len(), "rows end too early");
    #[cfg(target_arch = "x86_64")]
    if x86::there() {
        // SAFETY: the instructions are there, and so are the rows, as was just checked.
        return unsafe { x86::rows(src, out.as_mut_ptr(), stride) };
    }
    portable::rows(src, out, stride);
}

/// Rounds the depths of one step, `stride` elements apart, of neighbouring lanes to tiles of pairs,
/// filled up with zeros.
pub(super) fn pairs(
    src: &[f32],
    stride: usize,
    [lanes, depths]: [usize; 2],
    out: &mut [bf16],
    tiles: &Tiles,
) {
    let last = tiles.place(tiles.count.saturating_sub(1));
    assert!(tiles.count == 0 || last + TILE <= out.len(), "tiles end too early");
    let empty = lanes == 0 || depths == 0;
    assert!(empty || (depths - 1) * stride + lanes <= src.len(), "lanes end too early");
    #[cfg(target_arch = "x86_64")]
    if x86::there() {
        // SAFETY: the instructions are there, and so are lanes and tiles, as was just checked.
        return unsafe { x86::pairs(src.as_ptr(), stride, [lanes, depths], out, tiles) };
    }
    portable::pairs(src, stride, [lanes, depths], out, tiles);
}

/// Where the tiles of one step of some lanes lie.
#[derive(Clone, Copy)]
pub(super) struct Tiles {
    /// How many there are.
    pub count: usize,
    /// Tiles of a step of one panel, one after the other.
    pub of_panel: usize,
    /// From one panel to the next, in elements.
    pub panel: usize,
}

impl Tiles {
    /// Elements from the first tile to tile `t`.
    #[inline(always)]
    pub(super) fn place(&self, t: usize) -> usize {
        t / self.of_panel * self.panel + t % self.of_panel * TILE
    }
}

/// Transposes a tile: of rows to one of pairs, and back.
pub(super) fn transpose(tile: &mut [bf16; TILE]) {
    #[cfg(target_arch = "x86_64")]
    if x86::there() {
        // SAFETY: the instructions are there.
        return unsafe { x86::transpose(tile) };
    }
    portable::transpose(tile);
}

/// What runs everywhere.
pub(super) mod portable {
    use super::*;

    pub(in super::super) fn rows(src: &[f32], out: &mut [bf16], stride: usize) {
        for (src, out) in src.chunks(STEP).zip(out.chunks_mut(stride)) {
            let (values, zeros) = out[..STEP].split_at_mut(src.len());
            values.convert_from_f32_slice(src);
            zeros.fill(bf16::ZERO);
        }
    }

    pub(in super::super) fn pairs(
        src: &[f32],
        stride: usize,
        [lanes, depths]: [usize; 2],
        out: &mut [bf16],
        tiles: &Tiles,
    ) {
        for t in 0..tiles.count {
            let tile = &mut out[tiles.place(t)..][..TILE];
            for (i, x) in tile.iter_mut().enumerate() {
                let (pair, of_pair) = (i / (2 * TILE_LANES), i % (2 * TILE_LANES));
                let (lane, depth) = (t * TILE_LANES + of_pair / 2, 2 * pair + of_pair % 2);
                let there = lane < lanes && depth < depths;
                *x = if there { bf16::from_f32(src[depth * stride + lane]) } else { bf16::ZERO };
            }
        }
    }

    pub(in super::super) fn transpose(tile: &mut [bf16; TILE]) {
        let (pairs, _) = tile.as_chunks_mut::<2>();
        for i in 0..TILE_LANES {
            for j in 0..i {
                pairs.swap(i * TILE_LANES + j, j * TILE_LANES + i);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use half::bf16;

    use super::{STEP, TILE, TILE_LANES, Tiles};

    /// Whether the instructions of this module are there.
    pub(super) fn there() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512bf16")
    }

    /// 32 values rounded: those of `low`, then those of `high`.
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn round(low: __m512, high: __m512) -> __m512i {
        // SAFETY: both are 64 bytes of which any will do.
        unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(high, low)) }
    }

    /// # Safety
    /// `out` must have a row for each group.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) unsafe fn rows(src: &[f32], out: *mut bf16, stride: usize) {
        let (groups, rest) = src.as_chunks::<STEP>();
        for (g, group) in groups.iter().enumerate() {
            // SAFETY: a group has two vectors, and `out` a row for it.
            unsafe {
                let low = _mm512_loadu_ps(group.as_ptr());
                let high = _mm512_loadu_ps(group.as_ptr().add(TILE_LANES));
                _mm512_storeu_si512(out.add(g * stride).cast(), round(low, high));
            }
        }
        if !rest.is_empty() {
            let mask = (1u32 << rest.len()) - 1;
            // SAFETY: the masks leave out what lies beyond the rest.
            unsafe {
                let low = _mm512_maskz_loadu_ps(mask as u16, rest.as_ptr());
                let after = rest.as_ptr().wrapping_add(TILE_LANES);
                let high = _mm512_maskz_loadu_ps((mask >> TILE_LANES) as u16, after);
                _mm512_storeu_si512(out.add(groups.len() * stride).cast(), round(low, high));
            }
        }
    }

    /// Depths that are read ahead.
    const AHEAD: usize = 8;
    /// The numbers of words that mix two times 16 of them.
    const MIXED: [u16; 2 * TILE_LANES] = {
        let (mut mixed, mut i) = ([0; 2 * TILE_LANES], 0);
        while i < TILE_LANES {
            (mixed[2 * i], mixed[2 * i + 1]) = (i as u16, (TILE_LANES + i) as u16);
            i += 1;
        }
        mixed
    };

    /// # Safety
    /// Lanes must lie in `src` for all depths, and tiles in `out`.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) unsafe fn pairs(
        src: *const f32,
        stride: usize,
        [lanes, depths]: [usize; 2],
        out: &mut [bf16],
        tiles: &Tiles,
    ) {
        // SAFETY: an array of 64 bytes.
        let mixed = unsafe { _mm512_loadu_si512(MIXED.as_ptr().cast()) };
        for depth in (0..STEP).step_by(2) {
            for t in 0..tiles.count {
                let left = lanes.saturating_sub(t * TILE_LANES).min(TILE_LANES);
                let [low, high] = [depth, depth + 1].map(|depth| {
                    let from = src.wrapping_add(depth * stride + t * TILE_LANES);
                    let left = if depth < depths { left } else { 0 };
                    // SAFETY: a hint may name any address, and the mask leaves out what is not
                    // there.
                    unsafe {
                        _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(AHEAD * stride).cast());
                        _mm512_maskz_loadu_ps(((1u32 << left) - 1) as u16, from)
                    }
                });
                let pairs = _mm512_permutexvar_epi16(mixed, round(low, high));
                // SAFETY: the tile is there.
                unsafe {
                    let tile = out.as_mut_ptr().add(tiles.place(t) + depth * TILE_LANES);
                    _mm512_storeu_si512(tile.cast(), pairs);
                }
            }
        }
    }

    /// 16×16 dwords: in each 4×4 of them, then these as wholes.
    #[target_feature(enable = "avx512f")]
    pub(super) fn transpose(tile: &mut [bf16; TILE]) {
        let tile = tile.as_mut_ptr().cast::<__m512i>();
        // SAFETY: a tile is 16 vectors, which need not be aligned.
        unsafe {
            let row = |i: usize| _mm512_loadu_si512(tile.add(i));
            let two = |i: usize| {
                let (a, b) = (row(i), row(i + 1));
                [_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b)]
            };
            // Column c of the 4×4s in rows 4i… .
            let four = |i: usize| {
                let ([a, b], [c, d]) = (two(4 * i), two(4 * i + 2));
                [
                    _mm512_unpacklo_epi64(a, c),
                    _mm512_unpackhi_epi64(a, c),
                    _mm512_unpacklo_epi64(b, d),
                    _mm512_unpackhi_epi64(b, d),
                ]
            };
            let all = [four(0), four(1), four(2), four(3)];
            const EVEN: i32 = 0x88;
            const ODD: i32 = 0xdd;
            for c in 0..4 {
                let [a, b, d, e] = all.map(|columns| columns[c]);
                let (ab, de) =
                    (_mm512_shuffle_i32x4::<EVEN>(a, b), _mm512_shuffle_i32x4::<EVEN>(d, e));
                _mm512_storeu_si512(tile.add(c), _mm512_shuffle_i32x4::<EVEN>(ab, de));
                _mm512_storeu_si512(tile.add(8 + c), _mm512_shuffle_i32x4::<ODD>(ab, de));
                let (ab, de) =
                    (_mm512_shuffle_i32x4::<ODD>(a, b), _mm512_shuffle_i32x4::<ODD>(d, e));
                _mm512_storeu_si512(tile.add(4 + c), _mm512_shuffle_i32x4::<EVEN>(ab, de));
                _mm512_storeu_si512(tile.add(12 + c), _mm512_shuffle_i32x4::<ODD>(ab, de));
            }
        }
    }
}
