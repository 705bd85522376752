use super::*;
use crate::ops::gemm::{Columns, MatRef, Product, gemm_narrow};
use crate::rng::{Philox, Purpose};

fn integers(len: usize, seed: u64) -> Vec<f32> {
    let mut rng = Philox::new(seed, Purpose::Check, 0, 0);
    (0..len).map(|_| rng.below(9) as f32 - 4.0).collect()
}

fn normals(len: usize, seed: u64) -> Vec<f32> {
    let mut rng = Philox::new(seed, Purpose::Check, 0, 0);
    (0..len).map(|_| rng.normal()).collect()
}

/// C = alpha · A·B + beta · C on a kernel, with rows of C some elements apart.
fn run(
    kernel: &Kernel,
    [m, n, k]: [usize; 3],
    a: &[f32],
    b: &[f32],
    [alpha, beta]: [f32; 2],
    c: &mut [f32],
) {
    let (a, b) = (Rows(MatRef::new(a, m, k)), Lanes(MatRef::new(b, k, n).t()));
    let product = Product { m, n, k, a: &a, b: &b, alpha, beta };
    product.run_with(kernel, c, n + 3, Columns { run: n, run_stride: n });
}

/// In f64, of operands rounded before.
fn reference([m, n, k]: [usize; 3], a: &[f32], b: &[f32]) -> Vec<f64> {
    let rounded = |x: &f32| bf16::from_f32(*x).to_f64();
    let (a, b): (Vec<f64>, Vec<f64>) =
        (a.iter().map(rounded).collect(), b.iter().map(rounded).collect());
    let sum = |i: usize, j: usize| (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum();
    (0..m * n).map(|at| sum(at / n, at % n)).collect()
}

#[test]
fn integers_are_exact_on_all_kernels() {
    for shape in [[1, 1, 1], [5, 7, 3], [32, 32, 32], [37, 61, 600], [300, 50, 1100]] {
        let [m, n, k] = shape;
        let (a, b, before) = (integers(m * k, 1), integers(k * n, 2), integers(m * (n + 3), 3));
        let sums = reference(shape, &a, &b);
        for kernel in all() {
            for factors in [[1.0, 0.0], [1.0, 1.0], [2.0, -0.5]] {
                let mut c = before.clone();
                run(kernel, shape, &a, &b, factors, &mut c);
                for (i, (row, before)) in c.chunks(n + 3).zip(before.chunks(n + 3)).enumerate() {
                    for j in 0..n {
                        let sum = factors[0] * sums[i * n + j] as f32 + factors[1] * before[j];
                        assert!(row[j] == sum, "{} {shape:?} {factors:?} {i} {j}", kernel.name);
                    }
                    assert!(row[n..] == before[n..], "{} wrote beyond", kernel.name);
                }
            }
        }
    }
}

#[test]
fn sums_are_those_of_rounded_operands() {
    let shape @ [m, n, k] = [70, 100, 2000];
    let (a, b) = (normals(m * k, 1), normals(k * n, 2));
    let expected = reference(shape, &a, &b);
    let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    for kernel in all() {
        let mut c = vec![0.0; m * (n + 3)];
        run(kernel, shape, &a, &b, [1.0, 0.0], &mut c);
        let found = c.chunks(n + 3).flat_map(|row| &row[..n]);
        let difference: Vec<f64> = found.zip(&expected).map(|(c, e)| f64::from(*c) - e).collect();
        let relative = norm(&difference) / norm(&expected);
        assert!(relative < 1e-5, "{}: {relative:e}", kernel.name);
    }
}

/// All ways in which operands may lie.
#[test]
fn strides_do_not_matter() {
    let shape @ [m, n, k] = [45, 83, 130];
    let (a, b) = (integers(m * k, 1), integers(k * n, 2));
    let expected: Vec<f32> = reference(shape, &a, &b).into_iter().map(|x| x as f32).collect();
    let transposed = |x: &[f32], rows: usize, cols: usize| -> Vec<f32> {
        (0..rows * cols).map(|at| x[at % rows * cols + at / rows]).collect()
    };
    let (at, bt) = (transposed(&a, m, k), transposed(&b, k, n));
    for a in [MatRef::new(&a, m, k), MatRef::new(&at, k, m).t()] {
        for b in [MatRef::new(&b, k, n), MatRef::new(&bt, n, k).t()] {
            let mut c = vec![f32::NAN; m * n];
            gemm_narrow(1.0, a, b, 0.0, crate::ops::gemm::MatMut::new(&mut c, m, n));
            assert!(c == expected);
        }
    }
}

#[test]
fn it_does_not_matter_how_an_operand_is_packed() {
    let [m, n, k] = [50, 75, 1200];
    let (a, b) = (normals(m * k, 1), normals(k * n, 2));
    let a = Rows(MatRef::new(&a, m, k));
    let (b, in_f32) = (Lanes(MatRef::new(&b, k, n).t()), Pairs(MatRef::new(&b, k, n).t()));
    let run = |b: &dyn crate::ops::gemm::Pack<bf16>| {
        let mut c = vec![0.0; m * n];
        let product = Product { m, n, k, a: &a, b, alpha: 1.0, beta: 0.0 };
        product.run(&mut c, n, Columns { run: n, run_stride: n });
        c
    };
    assert!(run(&b) == with_packed(&b, n, k, |b| run(b)));
    assert!(run(&b) == run(&in_f32));
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let [m, n, k] = [100, 70, 20_000];
    let (a, b) = (normals(m * k, 1), normals(k * n, 2));
    let runs = [1, 3].map(|threads| {
        let mut c = vec![0.0; m * (n + 3)];
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(fastest(), [m, n, k], &a, &b, [1.0, 0.0], &mut c));
        c
    });
    assert!(runs[0] == runs[1]);
}

/// To the nearest, to even where two are as near: as the crate of the type does it.
#[test]
fn values_are_rounded_to_nearest_even() {
    let ties = [0x3f80_8000, 0x3f81_8000, 0x3f80_8001, 0xbf80_7fff].map(f32::from_bits);
    let others = [0.0, -0.0, f32::INFINITY, 1e38, f32::MAX, f32::MIN_POSITIVE];
    let values: Vec<f32> = [&ties[..], &others, &normals(90, 1)].concat();
    let mut out = vec![bf16::ONE; values.len().next_multiple_of(STEP)];
    round::rows(&values, &mut out, STEP);
    for (x, o) in values.iter().zip(&out) {
        assert_eq!(o.to_bits(), bf16::from_f32(*x).to_bits(), "{x:e}");
    }
    assert!(out[values.len()..].iter().all(|o| o.to_bits() == 0));
    round::rows(&[f32::NAN], &mut out, STEP);
    assert!(out[0].is_nan());
}

#[test]
fn tiles_are_transposed_both_ways() {
    let values = normals(TILE, 3);
    let mut rows = [bf16::ZERO; TILE];
    round::rows(&values, &mut rows, STEP);
    let lanes: Vec<f32> =
        (0..TILE).map(|at| values[at % TILE_LANES * STEP + at / TILE_LANES]).collect();
    let mut pairs = [bf16::ZERO; TILE];
    let one = round::Tiles { count: 1, of_panel: 1, panel: TILE };
    round::pairs(&lanes, TILE_LANES, [TILE_LANES, STEP], &mut pairs, &one);
    let mut tile = rows;
    round::transpose(&mut tile);
    assert!(tile == pairs);
    round::transpose(&mut tile);
    assert!(tile == rows);
    // An odd number of depths, filled up.
    round::pairs(&lanes, TILE_LANES, [TILE_LANES, 5], &mut pairs, &one);
    assert!(
        pairs[5 * TILE_LANES + 1..][..TILE_LANES - 1].iter().step_by(2).all(|x| *x == bf16::ZERO)
    );
    assert!(pairs[6 * TILE_LANES..].iter().all(|x| *x == bf16::ZERO));
}

/// On a machine with AVX512-BF16 the vectors do what runs everywhere does.
#[test]
fn vectors_pack_as_the_portable_code_does() {
    let values = normals(40 * 100, 4);
    let tiles = round::Tiles { count: 4, of_panel: 2, panel: 5 * TILE };
    let [mut found, mut expected] = [0, 1].map(|_| vec![bf16::ONE; 9 * TILE]);
    for size in [[40, 32], [64, 7], [1, 1], [50, 30]] {
        round::pairs(&values, 100, size, &mut found, &tiles);
        round::portable::pairs(&values, 100, size, &mut expected, &tiles);
        assert!(found == expected, "{size:?}");
    }
    for len in [1, 31, 32, 33, 100] {
        round::rows(&values[..len], &mut found, 2 * TILE);
        round::portable::rows(&values[..len], &mut expected, 2 * TILE);
        assert!(found == expected, "{len}");
    }
    let [found, expected] =
        [&mut found, &mut expected].map(|out| &mut out.as_chunks_mut::<TILE>().0[0]);
    round::transpose(found);
    round::portable::transpose(expected);
    assert!(found == expected);
}
