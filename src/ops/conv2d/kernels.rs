//! Launches of `kernels/conv2d.cu`.

use bytemuck::NoUninit;

use super::Geometry;
use super::cpu::gcd;
use super::run::Onto;
use crate::cx::Cx;
use crate::device::{self, DevicePtr, Launcher, size};
use crate::error::{Error, Result};
use crate::ops::divide::Divisor;
use crate::tensor::{DType, Meta, Shape, Tensor};

/// Bytes of the depth of a product that a stage holds.
const SLICE_BYTES: usize = 128;
/// Bytes of padding of a row in shared memory.
const PADDING_BYTES: usize = 16;
/// Bytes of a `Pixel`.
const PIXEL_BYTES: usize = 12;
/// Blocks of wgrad that run at the same time: two on each of 132 multiprocessors. The same number
/// stands for all devices, so that sums are the same bits.
const WGRAD_BLOCKS: u32 = 264;
/// Most rounds of that many blocks.
const WGRAD_ROUNDS: u32 = 4;
/// Slices of pixels that a block of wgrad has at least; starting and writing its sums are taken to
/// last as long.
const SPLIT_SLICES: u32 = 4;
/// Bytes that the device moves while a block does one FLOP: an estimate for a GPU of 300 TFLOP/s
/// with 2.6 TB/s.
const BYTES_PER_FLOP: u64 = 2;
/// Threads of `wgrad_sum`.
const SUM_THREADS: u32 = 256;
/// Rows or columns whose products take as long as loading a tile's operands and writing its
/// sums: an estimate.
const TILE_OVERHEAD: u32 = 32;
/// Most rows or columns of an image, of its padding and of a window, and taps of a filter, whose
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
    wide: u32,
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

/// One of the three products: its variants, and how they hold operands in shared memory.
struct Pass {
    f32: &'static [Tile],
    bf16: &'static [Tile],
    operands: [Along; 2],
    /// Whether it keeps a `Pixel` for each of a tile's rows there too.
    has_pixels: bool,
}

const FPROP: Pass = Pass {
    f32: pixel_tiles!("fprop", f32),
    bf16: pixel_tiles!("fprop", bf16),
    operands: [Along::Depth, Along::Depth],
    has_pixels: true,
};
const DGRAD: Pass = Pass {
    f32: pixel_tiles!("dgrad", f32),
    bf16: pixel_tiles!("dgrad", bf16),
    operands: [Along::Depth, Along::Side],
    has_pixels: true,
};
const WGRAD: Pass = Pass {
    f32: tiles!("wgrad", 128 x 64 "m128_f32", 128 x 64 "scalar_f32"),
    bf16: tiles!("wgrad", 128 x 128 "m128_bf16", 64 x 128 "m64_bf16", 64 x 128 "scalar_bf16"),
    operands: [Along::Side, Along::Side],
    has_pixels: false,
};

/// What a tile is chosen for.
#[derive(Clone, Copy)]
struct Sums {
    dtype: DType,
    /// Whether all channels are whole vectors.
    vectors: bool,
    rows: u32,
    columns: u32,
}

impl Pass {
    fn tiles(&self, dtype: DType) -> &'static [Tile] {
        if dtype == DType::BF16 { self.bf16 } else { self.f32 }
    }

    /// The tile that takes least of those for which a block has enough shared memory, among
    /// equals the first: products beside those that are wanted cost, and so do operands, of which
    /// small tiles load more for each product. Which tile it is does not change the order in
    /// which anything is summed.
    fn choose(&self, sums: Sums, limit_bytes: u32) -> Result<Tile> {
        let (scalar, rest) = self.tiles(sums.dtype).split_last().expect("every pass has a variant");
        let cost = |t: &&Tile| {
            let tiles = u64::from(sums.rows.div_ceil(t.m)) * u64::from(sums.columns.div_ceil(t.n));
            tiles * u64::from(t.m + TILE_OVERHEAD) * u64::from(t.n + TILE_OVERHEAD)
        };
        let fits = |t: &&Tile| self.shared_bytes(t, sums.dtype).iter().sum::<u32>() <= limit_bytes;
        let vectors = rest.iter().filter(|_| sums.vectors);
        let tile = vectors.filter(fits).min_by_key(cost).unwrap_or(scalar);
        if !fits(&tile) {
            let [own, launched] = self.shared_bytes(tile, sums.dtype);
            return Err(Error::device(format!(
                "{} needs {} bytes of shared memory a block; this device has {limit_bytes}; use \
                 --device cpu or a GPU of compute capability 8.0 or newer",
                tile.kernel,
                own + launched
            )));
        }
        Ok(*tile)
    }

    /// Shared memory of a block: what the kernel declares, and what its launch adds.
    fn shared_bytes(&self, tile: &Tile, dtype: DType) -> [u32; 2] {
        let stages = if dtype == DType::BF16 { 3 } else { 2 };
        let bytes = |side: u32, along| {
            let side_bytes = side as usize * dtype.size_bytes();
            match along {
                Along::Depth => side as usize * (SLICE_BYTES + PADDING_BYTES),
                Along::Side => SLICE_BYTES / dtype.size_bytes() * (side_bytes + PADDING_BYTES),
            }
        };
        let staged = tile.m as usize * (tile.n as usize + 8) * size_of::<f32>();
        let [a, b] = self.operands;
        let slices = stages * (bytes(tile.m, a) + bytes(tile.n, b));
        let pixels = if self.has_pixels { tile.m as usize * PIXEL_BYTES } else { 0 };
        [pixels as u32, slices.max(staged) as u32]
    }

    /// A product with a tile, in `blocks` × `deep` blocks.
    fn geometry(&self, tile: &Tile, dtype: DType, blocks: u32, deep: u32) -> device::Geometry {
        let threads = if dtype == DType::BF16 { 256 } else { tile.m / 8 * (tile.n / 8) };
        let [_, shared_bytes] = self.shared_bytes(tile, dtype);
        device::Geometry { grid: [blocks, 1, deep], block: [threads, 1, 1], shared_bytes }
    }
}

impl Params {
    fn new(g: &Geometry, summed: usize, accumulate: bool) -> Result<Self> {
        let sides = [g.h, g.w, g.pad + 1, g.reach()];
        if sides.iter().any(|s| *s > MOST_SIDE) || g.kernel > MOST_KERNEL || g.stride > MOST_KERNEL
        {
            return Err(Error::device(format!(
                "the kernels of conv2d take images of at most {MOST_SIDE} rows and columns, as \
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
            wide: 0,
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
        let vector = crate::ops::vector::width(dtype);
        [self.cin, self.cout, self.cin_max].iter().all(|c| c.is_multiple_of(vector))
    }

    fn sums(&self, dtype: DType, rows: u32, columns: u32) -> Sums {
        Sums { dtype, vectors: self.has_vectors(dtype), rows, columns }
    }
}

impl Onto<'_> {
    /// A bias of f32, and whether the result is added to what is there.
    fn on_device(self) -> (DevicePtr, bool) {
        match self {
            Onto::Nothing => (DevicePtr::NULL, false),
            Onto::Bias(bias) => (bias.device(), false),
            Onto::Target => (DevicePtr::NULL, true),
        }
    }
}

/// `y` from `x` and `w`; it may be of f32 where these are narrow.
pub(in crate::ops) fn fprop(
    g: &Geometry,
    launcher: &Launcher,
    [x, w]: [&Tensor; 2],
    onto: Onto,
    y: &mut Tensor,
) -> Result<()> {
    let (bias, accumulate) = onto.on_device();
    let (dtype, mut params) = (x.dtype(), Params::new(g, g.cin, accumulate)?);
    params.wide = (y.dtype() != dtype).into();
    let pixels = params.n * params.p * params.q;
    let sums = g.sums(dtype, pixels, params.cout);
    let tile = FPROP.choose(sums, launcher.driver.shared_limit_bytes())?;
    let blocks = pixels.div_ceil(tile.m) * params.cout.div_ceil(tile.n);
    let geometry = FPROP.geometry(&tile, dtype, blocks, 1);
    let pointers = [x.device(), w.device(), bias, y.device_mut()];
    launcher.launch(tile.kernel, geometry, &pointers, &params)
}

/// `gx`, the gradient of `x`, from `gy`, that of `y`, and `w`.
pub(in crate::ops) fn dgrad(
    g: &Geometry,
    launcher: &Launcher,
    [gy, w]: [&Tensor; 2],
    onto: Onto,
    gx: &mut Tensor,
) -> Result<()> {
    let (bias, accumulate) = onto.on_device();
    let (dtype, params) = (gy.dtype(), Params::new(g, g.cout, accumulate)?);
    // Of the first class, which is the largest.
    let pixels = params.n * params.h.div_ceil(params.stride) * params.w.div_ceil(params.stride);
    let sums = g.sums(dtype, pixels, params.cin);
    let tile = DGRAD.choose(sums, launcher.driver.shared_limit_bytes())?;
    let blocks = pixels.div_ceil(tile.m) * params.cin.div_ceil(tile.n);
    let classes = params.stride * params.stride;
    let geometry = DGRAD.geometry(&tile, dtype, blocks, classes);
    let pointers = [gy.device(), w.device(), bias, gx.device_mut()];
    launcher.launch(tile.kernel, geometry, &pointers, &params)
}

/// Gradient of `w`, of f32, whose active part is added to `gw`; where there is nothing in it
/// yet (`accumulate` false) the rest becomes 0.
pub(in crate::ops) fn wgrad(
    g: &Geometry,
    cx: &Cx,
    launcher: &Launcher,
    [x, gy]: [&Tensor; 2],
    gw: &mut Tensor,
    accumulate: bool,
) -> Result<()> {
    if !accumulate {
        launcher.driver.fill(gw.device_mut(), 0, gw.meta().size_bytes())?;
    }
    let (dtype, mut params) = (x.dtype(), Params::new(g, g.cin, true)?);
    let columns = params.kernel * params.kernel * params.cin;
    let sums = g.sums(dtype, params.cout, columns);
    let cout = params.cout;
    let blocks = |tile: Tile| cout.div_ceil(tile.m) * columns.div_ceil(tile.n);
    // As where there is no limit, so that sums are the same bits on all devices.
    let unlimited = WGRAD.choose(sums, u32::MAX)?;
    params.split(&unlimited, blocks(unlimited), (SLICE_BYTES / dtype.size_bytes()) as u32);
    let tile = WGRAD.choose(sums, launcher.driver.shared_limit_bytes())?;
    let elems = size(params.splits as usize * (params.cout * columns) as usize)?;
    let mut sums = cx.scratch(Meta::new(Shape::vector(elems as usize), DType::F32))?;
    let geometry = WGRAD.geometry(&tile, dtype, blocks(tile), params.splits);
    let pointers = [x.device(), gy.device(), sums.device_mut()];
    launcher.launch(tile.kernel, geometry, &pointers, &params)?;

    let (kernel, lanes) = match params.cin % 4 == 0 && params.cin_max % 4 == 0 {
        true => ("conv2d_wgrad_sum_f32", 4),
        false => ("conv2d_wgrad_sum_scalar_f32", 1),
    };
    let geometry = device::Geometry::cover(params.cout * columns / lanes, SUM_THREADS);
    launcher.launch(kernel, geometry, &[sums.device(), gw.device_mut()], &params)
}

impl Params {
    /// Splits the output's pixels, each split but the last of whole slices, for sums of `blocks` tiles.
    /// Of all numbers of splits it takes the one that lasts least, by an estimate, and of equals the
    /// smallest: blocks run in rounds of [`WGRAD_BLOCKS`], so a few blocks too many cost a whole round;
    /// and the sums of each split are written and read once.
    fn split(&mut self, tile: &Tile, blocks: u32, slice: u32) {
        let pixels = self.n * self.p * self.q;
        let slices = pixels.div_ceil(slice);
        let slice_flop = u64::from(2 * tile.m * tile.n * slice);
        let sums_bytes = 2 * 4 * u64::from(self.cout) * u64::from(self.kernel.pow(2) * self.cin);
        let most = (WGRAD_ROUNDS * WGRAD_BLOCKS / blocks).max(1);
        let each = |splits: u32| slices.div_ceil(splits).max(SPLIT_SLICES);
        let cost = |&splits: &u32| {
            let (each, splits) = (each(splits), slices.div_ceil(each(splits)));
            let rounds = u64::from((blocks * splits).div_ceil(WGRAD_BLOCKS));
            rounds * u64::from(each + SPLIT_SLICES) * slice_flop * BYTES_PER_FLOP
                + u64::from(splits) * sums_bytes
        };
        let wanted = (1..=most).min_by_key(cost).unwrap_or(1);
        self.split_pixels = each(wanted) * slice;
        self.splits = pixels.div_ceil(self.split_pixels);
    }
}

#[cfg(test)]
mod tests;
