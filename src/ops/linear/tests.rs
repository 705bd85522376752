use super::{Linear, cpu};
use crate::ops::Op;
use crate::ops::gemm::{gemm, gemm_narrow};
use crate::rng::{Philox, Purpose};
use crate::tensor::{DType, Meta, Real, Shape};

fn integers<T: Real>(len: usize, seed: u64) -> Vec<T> {
    let mut rng = Philox::new(seed, Purpose::Check, 0, 0);
    (0..len).map(|_| T::of(rng.below(7) as f64 - 3.0)).collect()
}

fn check<T: Real>(gemm: cpu::Gemm<T>, n: usize, cin: usize, out: usize, [omax, imax]: [usize; 2]) {
    let g = Linear::new(out).geometry(Shape::matrix(n, cin), Shape::matrix(omax, imax));
    let (x, w) = (integers::<T>(n * cin, 1), integers::<T>(omax * imax, 2));
    let (b, gy) = (integers::<T>(omax, 3), integers::<T>(n * out, 4));
    let mut y = vec![T::zero(); n * out];
    let (mut gx, mut gw, mut gb) = (x.clone(), w.clone(), b.clone());
    let (mut want_y, mut want_gx, mut want_gw, mut want_gb) =
        (y.clone(), x.clone(), w.clone(), b.clone());
    for r in 0..n {
        for o in 0..out {
            want_y[r * out + o] = b[o];
            want_gb[o] += gy[r * out + o];
            for i in 0..cin {
                want_y[r * out + o] += x[r * cin + i] * w[o * imax + i];
                want_gx[r * cin + i] += gy[r * out + o] * w[o * imax + i];
                want_gw[o * imax + i] += gy[r * out + o] * x[r * cin + i];
            }
        }
    }
    cpu::fprop(gemm, &g, &x, &w, Some(&b), &mut y);
    cpu::dgrad(gemm, &g, &gy, &w, &mut gx, true);
    cpu::wgrad(gemm, &g, &x, &gy, &mut gw);
    cpu::bias_grad(&g, &gy, &mut gb);
    assert!(y == want_y && gx == want_gx && gw == want_gw && gb == want_gb, "{g:?}");
}

#[test]
fn integers_are_exact() {
    for (n, cin, out, stored) in
        [(1, 1, 1, [1, 1]), (7, 13, 5, [9, 20]), (33, 70, 129, [140, 80]), (600, 24, 40, [40, 24])]
    {
        check::<f32>(gemm, n, cin, out, stored);
        check::<f64>(gemm, n, cin, out, stored);
        check::<f32>(gemm_narrow, n, cin, out, stored);
    }
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let meta = |s| Meta::new(s, DType::F32);
    let infer = |w, b| {
        let inputs = [meta(Shape::matrix(2, 8)), meta(w), meta(b)];
        Linear::new(4).infer(&inputs).map(|m| m.shape).map_err(|e| e.to_string())
    };
    assert_eq!(infer(Shape::matrix(6, 8), Shape::vector(6)), Ok(Shape::matrix(2, 4)));
    assert!(infer(Shape::matrix(3, 8), Shape::vector(3)).unwrap_err().contains("4x1x1x8"));
    assert!(infer(Shape::matrix(6, 7), Shape::vector(6)).unwrap_err().contains("6x1x1x7"));
    assert!(infer(Shape::matrix(6, 8), Shape::vector(4)).unwrap_err().contains("bias"));
}
