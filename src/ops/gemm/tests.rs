use super::*;
use crate::rng::{Philox, Purpose};

fn integers<T: Real>(len: usize, seed: u64) -> Vec<T> {
    let mut rng = Philox::new(seed, Purpose::Check, 0, 0);
    (0..len).map(|_| T::of(rng.below(9) as f64 - 4.0)).collect()
}

/// Offset-free strides for a matrix: row-major, column-major, or with gaps.
fn strides(layout: usize, rows: usize, cols: usize) -> (usize, usize, usize) {
    let (rs, cs) = match layout {
        0 => (cols, 1),
        1 => (1, rows),
        2 => (cols + 3, 1),
        _ => (2 * cols, 2),
    };
    (rs, cs, (rows - 1) * rs + (cols - 1) * cs + 1)
}

fn check<T: Real>([m, n, k]: [usize; 3], layouts: [usize; 3], alpha: f64, beta: f64) {
    let (ars, acs, alen) = strides(layouts[0], m, k);
    let (brs, bcs, blen) = strides(layouts[1], k, n);
    let (crs, ccs, clen) = strides(layouts[2], m, n);
    let (a, b) = (integers::<T>(alen, 1), integers::<T>(blen, 2));
    let mut c = integers::<T>(clen, 3);
    let mut want = c.clone();
    for i in 0..m {
        for j in 0..n {
            let sum = (0..k).map(|l| a[i * ars + l * acs] * b[l * brs + j * bcs]).sum::<T>();
            let at = &mut want[i * crs + j * ccs];
            *at = T::of(alpha) * sum + T::of(beta) * *at;
        }
    }
    gemm(
        T::of(alpha),
        MatRef::strided(&a, m, k, ars, acs),
        MatRef::strided(&b, k, n, brs, bcs),
        T::of(beta),
        MatMut::strided(&mut c, m, n, crs, ccs),
    );
    assert!(c == want, "{m}x{n}x{k} {layouts:?} alpha {alpha} beta {beta}");
}

#[test]
fn integers_are_exact_in_every_shape_and_layout() {
    for shape in [
        [1, 1, 1],
        [5, 7, 3],
        [6, 16, 10],
        [13, 33, 65],
        [100, 40, 300],
        [200, 130, 257],
        [7, 9, 3000],
        [16, 500, 5],
    ] {
        for (i, layouts) in [[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 1], [2, 2, 2], [3, 3, 3]]
            .into_iter()
            .enumerate()
        {
            let (alpha, beta) = [(1.0, 0.0), (1.0, 1.0), (2.0, -0.5)][i % 3];
            check::<f32>(shape, layouts, alpha, beta);
            check::<f64>(shape, layouts, alpha, beta);
        }
    }
}

#[test]
fn empty_depth_scales_c() {
    let mut c = [1.0f32, 2.0, 3.0, 4.0];
    gemm(1.0, MatRef::new(&[], 2, 0), MatRef::new(&[], 0, 2), 0.5, MatMut::new(&mut c, 2, 2));
    assert_eq!(c, [0.5, 1.0, 1.5, 2.0]);
    gemm(1.0, MatRef::new(&[], 2, 0), MatRef::new(&[], 0, 2), 0.0, MatMut::new(&mut c, 2, 2));
    assert_eq!(c, [0.0; 4]);
}

#[test]
fn all_kernels_of_this_machine_agree() {
    fn run<T: Real>() {
        let [m, n, k] = [37, 61, 600];
        let (a, b) = (integers::<T>(m * k, 1), integers::<T>(k * n, 2));
        let (va, vb) = (MatRef::new(&a, m, k), MatRef::new(&b, k, n).t());
        let outputs: Vec<Vec<T>> = kernel::all::<T>()
            .map(|kernel| {
                let mut c = vec![T::zero(); m * n];
                let p = Product { m, n, k, a: &va, b: &vb, alpha: T::one(), beta: T::zero() };
                p.run_with(kernel, &mut c, n, Columns { run: n, run_stride: n });
                c
            })
            .collect();
        assert!(outputs.iter().all(|c| c == &outputs[0]));
        assert!(outputs[0].iter().any(|x| *x != T::zero()));
    }
    run::<f32>();
    run::<f64>();
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let [m, n, k] = [100, 70, 20_000];
    let mut rng = Philox::new(5, Purpose::Check, 0, 0);
    let mut normals = |len| (0..len).map(|_| rng.normal()).collect::<Vec<f32>>();
    let (a, b) = (normals(m * k), normals(k * n));
    let runs: Vec<Vec<f32>> = [1, 2, 8]
        .into_iter()
        .map(|threads| {
            let mut c = vec![0.0; m * n];
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let out = MatMut::new(&mut c, m, n);
            pool.install(|| gemm(1.0, MatRef::new(&a, m, k), MatRef::new(&b, k, n), 0.0, out));
            c
        })
        .collect();
    assert!(runs[0] == runs[1] && runs[0] == runs[2]);
}
