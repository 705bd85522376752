use super::*;
use crate::ops::conv2d::{Conv2d, cases};

/// Shared memory of a block on devices of compute capability 8.6, 8.9 and 12.0; 8.0; 9.0.
const LIMITS: [u32; 3] = [99 << 10, 163 << 10, 227 << 10];

/// What the cases of convolution choose: every variant at least once.
#[test]
fn cases_reach_every_tile() {
    for dtype in [DType::F32, DType::BF16] {
        let mut reached = Vec::new();
        for case in cases::all() {
            let g = case.op.geometry(case.inputs[0].shape, case.inputs[1].shape);
            let (cout, cin) = (g.cout as u32, g.cin as u32);
            let taps = (g.kernel * g.kernel) as u32;
            for (pass, rows, columns) in
                [(FPROP, 1, cout), (DGRAD, 1, cin), (WGRAD, cout, taps * cin)]
            {
                reached.push(pass.choose(g.sums(dtype, rows, columns), u32::MAX).unwrap());
            }
        }
        for tile in [FPROP, DGRAD, WGRAD].map(|pass| pass.tiles(dtype)).concat() {
            assert!(reached.contains(&tile), "no case takes {tile:?}");
        }
    }
}

#[test]
fn tiles_fit_the_channels() {
    let sums = |columns| Sums { dtype: DType::BF16, vectors: true, rows: 1 << 20, columns };
    let n = |columns| FPROP.choose(sums(columns), u32::MAX).unwrap().n;
    let chosen = [16, 32, 48, 64, 80, 96, 128, 160, 192, 256, 512, 2048].map(n);
    assert_eq!(chosen, [32, 32, 48, 64, 80, 96, 128, 80, 96, 128, 128, 128]);
    // All widths of the paper's search space, and four times those, without a column to spare.
    let widths = [32, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512, 640];
    for columns in widths.into_iter().flat_map(|w| [w, 4 * w]) {
        assert_eq!(columns % n(columns), 0, "{columns} by {}", n(columns));
    }
    let scalar = Sums { vectors: false, ..sums(128) };
    let kernel = FPROP.choose(scalar, u32::MAX).unwrap().kernel;
    assert_eq!(kernel, "conv2d_fprop_scalar_bf16");
}

#[test]
fn tiles_fit_the_shared_memory_of_a_block() {
    for dtype in [DType::F32, DType::BF16] {
        for (pass, limit) in [FPROP, DGRAD, WGRAD].iter().flat_map(|p| LIMITS.map(|l| (p, l))) {
            let all = pass.tiles(dtype).iter();
            let bytes = |t: &Tile| pass.shared_bytes(t, dtype).iter().sum::<u32>();
            let fitting: Vec<&Tile> = all.filter(|t| bytes(t) <= limit).collect();
            for (vectors, columns) in
                [true, false].into_iter().flat_map(|v| (8..2560).step_by(8).map(move |c| (v, c)))
            {
                let sums = Sums { dtype, vectors, rows: 1000, columns };
                assert!(fitting.contains(&&pass.choose(sums, limit).unwrap()));
            }
            // All but the largest of bf16 fit the smallest devices.
            let missing = pass.tiles(dtype).len() - fitting.len();
            assert_eq!(missing == 1, dtype == DType::BF16 && limit == LIMITS[0]);
        }
    }
    let sums = Sums { dtype: DType::BF16, vectors: true, rows: 128, columns: 128 };
    let message = FPROP.choose(sums, 48 << 10).unwrap_err().to_string();
    assert!(message.contains("conv2d_fprop_scalar_bf16 needs 84480 bytes"), "{message}");
}

#[test]
fn splits_cover_the_pixels() {
    for (n, side, blocks) in [(1, 1, 1), (1, 1, 264), (7, 5, 9), (256, 56, 264), (256, 7, 500)] {
        let (x, w) = (Shape::nhwc(n, side, side, 8), Shape([8, 3, 3, 8]));
        let g = Conv2d::new(8, 3, 1).geometry(x, w);
        let mut p = Params::new(&g, 8, true).unwrap();
        p.split(&WGRAD.bf16[0], blocks, 64);
        let pixels = p.n * p.p * p.q;
        assert!(p.splits >= 1 && p.splits * blocks <= (4 * 264).max(blocks), "{p:?}");
        assert!(p.splits * p.split_pixels >= pixels);
        assert!((p.splits - 1) * p.split_pixels < pixels);
    }
}

/// Rounds of blocks that wgrad of `channels` to as many takes, as a whole number and as they are used.
fn rounds(channels: usize, kernel: usize, side: usize) -> (u32, f64) {
    let (x, w) =
        (Shape::nhwc(256, side, side, channels), Shape([channels, kernel, kernel, channels]));
    let g = Conv2d::new(channels, kernel, 1).geometry(x, w);
    let (rows, columns) = (channels as u32, (kernel * kernel * channels) as u32);
    let tile = WGRAD.choose(g.sums(DType::BF16, rows, columns), u32::MAX).unwrap();
    let blocks = rows.div_ceil(tile.m) * columns.div_ceil(tile.n);
    let mut p = Params::new(&g, channels, true).unwrap();
    p.split(&tile, blocks, 64);
    let used = f64::from(blocks * p.splits) / 264.0;
    (used.ceil() as u32, used)
}

/// A few blocks beyond a round would cost as much as a whole one.
#[test]
fn splits_fill_the_rounds_of_blocks() {
    for (channels, side) in
        [(80, 56), (160, 28), (320, 14), (640, 7), (64, 56), (128, 28), (256, 14)]
    {
        let (whole, used) = rounds(channels, 3, side);
        assert!(used / f64::from(whole) > 0.75, "{channels}: {used} of {whole} rounds");
    }
    // 69 tiles: 4 splits would take a second round for 12 of their 276 blocks.
    assert_eq!(rounds(320, 3, 14), (2, 69.0 * 7.0 / 264.0));
}

#[test]
fn too_large_images_and_filters_are_errors() {
    for (x, kernel) in [([1, 1 << 15, 1, 1], 1), ([1, 1, 1, 1], 41)] {
        let w = Shape([1, kernel, kernel, 1]);
        let g = Conv2d::new(1, kernel, 1).geometry(Shape(x), w);
        assert!(Params::new(&g, 1, false).unwrap_err().to_string().contains("at most"));
    }
}
