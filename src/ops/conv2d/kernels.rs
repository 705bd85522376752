//! Launches of `kernels/conv2d.cu`.

use bytemuck::NoUninit;

use super::Geometry;
use super::cpu::gcd;
use crate::device::{self, Cx, DevicePtr, Queue, size};
use crate::error::{Error, Result};
use crate::ops::divide::Divisor;
use crate::tensor::{DType, Meta, Shape, Tensor};

/// Bytes of the depth of a product that a stage holds.
const SLICE_BYTES: usize = 128;
/// Bytes of padding of a row in shared memory.
const PADDING_BYTES: usize = 16;
/// Most blocks that sum over pixels at the same time: two for each multiprocessor.
const WGRAD_BLOCKS: u32 = 264;
/// Slices of pixels that a block of wgrad has at least.
const SPLIT_SLICES: u32 = 4;
/// Threads of `wgrad_sum`.
const SUM_THREADS: u32 = 256;
/// Rows or columns whose products take as long as loading a tile's operands and writing its
/// sums: an estimate.
const TILE_OVERHEAD: u32 = 32;
/// Most rows or columns of a picture, of its padding and of a window, and taps of a filter, whose
/// places kernels can hold.
const MOST_SIDE: usize = 1 << 14;
const MOST_KERNEL: usize = 39;

/// `Conv2dParams`.
#[derive(Clone, Copy, Debug, NoUninit)]
#[repr(C)]
struct Params {
    n: u32,
    h: u32,
    w: u32,
    cin: u32,
    p: u32,
    q: u32,
    cout: u32,
    cin_max: u32,
    kernel: u32,
    stride: u32,
    pad: u32,
    dilation: u32,
    common: u32,
    inverse: u32,
    accumulate: u32,
    split_pixels: u32,
    splits: u32,
    by_channels: Divisor,
    by_positions: Divisor,
    by_columns: Divisor,
}

/// How an operand lies in shared memory: along the depth of the product or across it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Along {
    Depth,
    Side,
}

/// A variant of a pass: its tile of `m` × `n` sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tile {
    kernel: &'static str,
    m: u32,
    n: u32,
}

/// Names one tile for each variant, the last of which takes any number of channels.
macro_rules! tiles {
    ($pass:literal, $($m:literal x $n:literal $variant:literal),*) => {
        &[$(Tile { kernel: concat!("conv2d_", $pass, "_", $variant), m: $m, n: $n }),*]
    };
}

/// Tiles of pixels and channels, which fprop and dgrad share.
macro_rules! pixel_tiles {
    ($pass:literal, f32) => {
        tiles!($pass, 128 x 64 "n64_f32", 128 x 64 "scalar_f32")
    };
    ($pass:literal, bf16) => {
        tiles!(
            $pass,
            128 x 128 "n128_bf16", 128 x 96 "n96_bf16", 128 x 80 "n80_bf16", 128 x 64 "n64_bf16",
            128 x 48 "n48_bf16", 128 x 32 "n32_bf16", 128 x 64 "scalar_bf16"
        )
    };
}

const FPROP_F32: &[Tile] = pixel_tiles!("fprop", f32);
const DGRAD_F32: &[Tile] = pixel_tiles!("dgrad", f32);
const WGRAD_F32: &[Tile] = tiles!("wgrad", 128 x 64 "m128_f32", 128 x 64 "scalar_f32");
const FPROP_BF16: &[Tile] = pixel_tiles!("fprop", bf16);
const DGRAD_BF16: &[Tile] = pixel_tiles!("dgrad", bf16);
const WGRAD_BF16: &[Tile] =
    tiles!("wgrad", 128 x 128 "m128_bf16", 64 x 128 "m64_bf16", 64 x 128 "scalar_bf16");

/// One of two by the type of values.
fn by_type<T>(dtype: DType, f32: T, bf16: T) -> T {
    if dtype == DType::BF16 { bf16 } else { f32 }
}

/// The tile that takes least for `rows` × `columns` sums, among equals the first: products
/// beside those that are wanted cost, and so do operands, of which small tiles load more for
/// each product.
fn choose(tiles: &[Tile], vectors: bool, rows: u32, columns: u32) -> Tile {
    let (scalar, rest) = tiles.split_last().expect("every pass has a variant");
    let cost = |t: &&Tile| {
        let tiles = u64::from(rows.div_ceil(t.m)) * u64::from(columns.div_ceil(t.n));
        tiles * u64::from(t.m + TILE_OVERHEAD) * u64::from(t.n + TILE_OVERHEAD)
    };
    *rest.iter().filter(|_| vectors).min_by_key(cost).unwrap_or(scalar)
}

impl Tile {
    /// A product with this tile, in `blocks` × `deep` blocks.
    fn geometry(
        &self,
        dtype: DType,
        along: [Along; 2],
        blocks: u32,
        deep: u32,
    ) -> device::Geometry {
        let (stages, threads) = by_type(dtype, (2, self.m / 8 * (self.n / 8)), (3, 256));
        let bytes = |side: u32, along| {
            let side_bytes = side as usize * dtype.size_bytes();
            match along {
                Along::Depth => side as usize * (SLICE_BYTES + PADDING_BYTES),
                Along::Side => SLICE_BYTES / dtype.size_bytes() * (side_bytes + PADDING_BYTES),
            }
        };
        let staged = self.m as usize * (self.n as usize + 8) * size_of::<f32>();
        let slices = stages * (bytes(self.m, along[0]) + bytes(self.n, along[1]));
        device::Geometry {
            grid: [blocks, 1, deep],
            block: [threads, 1, 1],
            shared_bytes: slices.max(staged) as u32,
        }
    }
}

impl Params {
    fn new(g: &Geometry, summed: usize, accumulate: bool) -> Result<Self> {
        let sides = [g.h, g.w, g.pad + 1, g.reach()];
        if sides.iter().any(|s| *s > MOST_SIDE) || g.kernel > MOST_KERNEL || g.stride > MOST_KERNEL
        {
            return Err(Error::device(format!(
                "the kernels of conv2d take pictures of at most {MOST_SIDE} rows and columns, as \
                 much less one of padding, windows as large, and kernels and strides of at most \
                 {MOST_KERNEL}; found {g:?}; use smaller ones or --device cpu"
            )));
        }
        // Windows may start and end outside of what they read.
        let read = |n, h, w, c, beyond| ((n * h + beyond) * w + beyond) * c;
        for elems in [
            read(g.n, g.h, g.w, g.cin, g.pad),
            read(g.n, g.p, g.q, g.cout, g.reach() - 1),
            g.cout * g.filter_stride(),
        ] {
            size(elems)?;
        }
        let common = gcd(g.dilation, g.stride);
        let (step, period) = (g.dilation / common, g.stride / common);
        let inverse = (0..period).find(|i| step * i % period == 1 % period).unwrap_or(0);
        Ok(Self {
            n: g.n as u32,
            h: g.h as u32,
            w: g.w as u32,
            cin: g.cin as u32,
            p: g.p as u32,
            q: g.q as u32,
            cout: g.cout as u32,
            cin_max: g.cin_max as u32,
            kernel: g.kernel as u32,
            stride: g.stride as u32,
            pad: g.pad as u32,
            dilation: g.dilation as u32,
            common: common as u32,
            inverse: inverse as u32,
            accumulate: accumulate.into(),
            split_pixels: 0,
            splits: 1,
            by_channels: Divisor::new(summed as u32),
            by_positions: Divisor::new((g.p * g.q) as u32),
            by_columns: Divisor::new(g.q as u32),
        })
    }
}

impl Geometry {
    /// Whether all channels are whole vectors, and so begin where an access may.
    fn has_vectors(&self, dtype: DType) -> bool {
        let vector = crate::ops::lanes::vector(dtype);
        [self.cin, self.cout, self.cin_max].iter().all(|c| c.is_multiple_of(vector))
    }
}

/// `y` from `x`, `w` and, where there is one, a bias of f32.
pub(in crate::ops) fn fprop(
    g: &Geometry,
    queue: &Queue,
    [x, w]: [&Tensor; 2],
    bias: Option<&Tensor>,
    y: &mut Tensor,
) -> Result<()> {
    let (dtype, params) = (x.dtype(), Params::new(g, g.cin, false)?);
    let tiles = by_type(dtype, FPROP_F32, FPROP_BF16);
    let pixels = params.n * params.p * params.q;
    let tile = choose(tiles, g.has_vectors(dtype), pixels, params.cout);
    let blocks = pixels.div_ceil(tile.m) * params.cout.div_ceil(tile.n);
    let geometry = tile.geometry(dtype, [Along::Depth, Along::Depth], blocks, 1);
    let bias = bias.map_or(DevicePtr::NULL, Tensor::device);
    let pointers = [x.device(), w.device(), bias, y.device_mut()];
    queue.launch(tile.kernel, geometry, &pointers, &params)
}

/// Gradient of `x`, written or added to `gx`, from `gy`, that of `y`.
pub(in crate::ops) fn dgrad(
    g: &Geometry,
    queue: &Queue,
    [gy, w]: [&Tensor; 2],
    gx: &mut Tensor,
    accumulate: bool,
) -> Result<()> {
    let (dtype, params) = (gy.dtype(), Params::new(g, g.cout, accumulate)?);
    let tiles = by_type(dtype, DGRAD_F32, DGRAD_BF16);
    // Of the first class, which is the largest.
    let pixels = params.n * params.h.div_ceil(params.stride) * params.w.div_ceil(params.stride);
    let tile = choose(tiles, g.has_vectors(dtype), pixels, params.cin);
    let blocks = pixels.div_ceil(tile.m) * params.cin.div_ceil(tile.n);
    let classes = params.stride * params.stride;
    let geometry = tile.geometry(dtype, [Along::Depth, Along::Side], blocks, classes);
    queue.launch(tile.kernel, geometry, &[gy.device(), w.device(), gx.device_mut()], &params)
}

/// Gradient of `w`, of f32, whose active part is added to `gw`; where there is nothing in it
/// yet (`accumulate` false) the rest becomes 0.
pub(in crate::ops) fn wgrad(
    g: &Geometry,
    cx: &Cx,
    queue: &Queue,
    [x, gy]: [&Tensor; 2],
    gw: &mut Tensor,
    accumulate: bool,
) -> Result<()> {
    if !accumulate {
        queue.driver.fill(gw.device_mut(), 0, gw.meta().size_bytes())?;
    }
    let (dtype, mut params) = (x.dtype(), Params::new(g, g.cin, true)?);
    let tiles = by_type(dtype, WGRAD_F32, WGRAD_BF16);
    let columns = params.kernel * params.kernel * params.cin;
    let tile = choose(tiles, g.has_vectors(dtype), params.cout, columns);
    let blocks = params.cout.div_ceil(tile.m) * columns.div_ceil(tile.n);
    let slice = (SLICE_BYTES / dtype.size_bytes()) as u32;
    params.split(WGRAD_BLOCKS.div_ceil(blocks), slice);
    let elems = size(params.splits as usize * (params.cout * columns) as usize)?;
    let mut sums = cx.scratch(Meta::new(Shape::vector(elems as usize), DType::F32))?;
    let geometry = tile.geometry(dtype, [Along::Side, Along::Side], blocks, params.splits);
    let pointers = [x.device(), gy.device(), sums.device_mut()];
    queue.launch(tile.kernel, geometry, &pointers, &params)?;

    let (kernel, lanes) = match params.cin % 4 == 0 && params.cin_max % 4 == 0 {
        true => ("conv2d_wgrad_sum_f32", 4),
        false => ("conv2d_wgrad_sum_scalar_f32", 1),
    };
    let geometry = device::Geometry::cover(params.cout * columns / lanes, SUM_THREADS);
    queue.launch(kernel, geometry, &[sums.device(), gw.device_mut()], &params)
}

impl Params {
    /// Splits the output's pixels in at most `wanted`, each of whole slices but the last.
    fn split(&mut self, wanted: u32, slice: u32) {
        let pixels = self.n * self.p * self.q;
        let slices = pixels.div_ceil(slice);
        let each = slices.div_ceil(wanted).max(SPLIT_SLICES);
        self.split_pixels = each * slice;
        self.splits = pixels.div_ceil(self.split_pixels);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Conv2d;
    use super::*;

    /// What the cases of convolution choose: every variant at least once.
    #[test]
    fn cases_reach_every_tile() {
        for dtype in [DType::F32, DType::BF16] {
            let [fprop, dgrad, wgrad] = [
                by_type(dtype, FPROP_F32, FPROP_BF16),
                by_type(dtype, DGRAD_F32, DGRAD_BF16),
                by_type(dtype, WGRAD_F32, WGRAD_BF16),
            ];
            let mut reached = Vec::new();
            for case in super::super::cases::all() {
                let g = case.op.geometry(case.inputs[0].shape, case.inputs[1].shape);
                let (vectors, taps) = (g.has_vectors(dtype), g.kernel * g.kernel);
                reached.push(choose(fprop, vectors, 1, g.cout as u32));
                reached.push(choose(dgrad, vectors, 1, g.cin as u32));
                reached.push(choose(wgrad, vectors, g.cout as u32, (taps * g.cin) as u32));
            }
            for tile in [fprop, dgrad, wgrad].concat() {
                assert!(reached.contains(&tile), "no case takes {tile:?}");
            }
        }
    }

    #[test]
    fn tiles_fit_the_channels() {
        let n = |columns| choose(FPROP_BF16, true, 1 << 20, columns).n;
        let chosen = [16, 32, 48, 64, 80, 96, 128, 160, 192, 256, 512, 2048].map(n);
        assert_eq!(chosen, [32, 32, 48, 64, 80, 96, 128, 80, 96, 128, 128, 128]);
        // All widths of the paper's search space, and four times those, without a column to spare.
        let widths = [32, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512, 640];
        for columns in widths.into_iter().flat_map(|w| [w, 4 * w]) {
            assert_eq!(columns % n(columns), 0, "{columns} by {}", n(columns));
        }
        assert_eq!(choose(FPROP_BF16, false, 1, 128).kernel, "conv2d_fprop_scalar_bf16");
    }

    #[test]
    fn splits_cover_the_pixels() {
        for (n, side, wanted) in [(1, 1, 1), (1, 1, 264), (7, 5, 9), (256, 56, 264), (256, 7, 5)] {
            let (x, w) = (Shape::nhwc(n, side, side, 8), Shape([8, 3, 3, 8]));
            let g = Conv2d::new(8, 3, 1).geometry(x, w);
            let mut p = Params::new(&g, 8, true).unwrap();
            p.split(wanted, 64);
            let pixels = p.n * p.p * p.q;
            assert!(p.splits >= 1 && p.splits <= wanted, "{p:?}");
            assert!(p.splits * p.split_pixels >= pixels);
            assert!((p.splits - 1) * p.split_pixels < pixels);
        }
    }

    #[test]
    fn too_large_pictures_and_filters_are_errors() {
        for (x, kernel) in [([1, 1 << 15, 1, 1], 1), ([1, 1, 1, 1], 41)] {
            let w = Shape([1, kernel, kernel, 1]);
            let g = Conv2d::new(1, kernel, 1).geometry(Shape(x), w);
            assert!(Params::new(&g, 1, false).unwrap_err().to_string().contains("at most"));
        }
    }
}
