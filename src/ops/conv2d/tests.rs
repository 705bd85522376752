use super::gather::Gather;
use super::{Conv2d, Geometry, cpu, narrow, wgrad};
use crate::ops::Op;
use crate::rng::{Philox, Purpose};
use crate::tensor::{DType, Meta, Real, Shape};

fn integers<T: Real>(len: usize, seed: u64) -> Vec<T> {
    let mut rng = Philox::new(seed, Purpose::Check, 0, 0);
    (0..len).map(|_| T::of(rng.below(7) as f64 - 3.0)).collect()
}

/// Calls `f` with the places in x, w and y of every product of the convolution.
fn products(g: &Geometry, mut f: impl FnMut(usize, usize, usize)) {
    for n in 0..g.n {
        for (p, q) in (0..g.p).flat_map(|p| (0..g.q).map(move |q| (p, q))) {
            for (r, s) in (0..g.kernel).flat_map(|r| (0..g.kernel).map(move |s| (r, s))) {
                let h = (p * g.stride + r).wrapping_sub(g.kernel / 2);
                let w = (q * g.stride + s).wrapping_sub(g.kernel / 2);
                if h >= g.h || w >= g.w {
                    continue;
                }
                for (o, i) in (0..g.cout).flat_map(|o| (0..g.cin).map(move |i| (o, i))) {
                    f(
                        ((n * g.h + h) * g.w + w) * g.cin + i,
                        ((o * g.kernel + r) * g.kernel + s) * g.cin_max + i,
                        ((n * g.p + p) * g.q + q) * g.cout + o,
                    );
                }
            }
        }
    }
}

/// How the passes are run: a gather, and wgrad.
type Passes<T> = (fn(&Gather<T>, &mut [T]), fn(&Geometry, &[T], &[T], &mut [T]));

/// All three passes against direct loops in f64, on integers: bit-exact, with operands rounded
/// to bf16 too.
fn check(kernel: usize, stride: usize, x: [usize; 4], cout: usize, stored: [usize; 2]) {
    let sizes = (kernel, stride, x, cout, stored);
    check_in::<f32>((|g, out| g.run(out), wgrad::wgrad), sizes);
    check_in::<f64>((|g, out| g.run(out), wgrad::wgrad), sizes);
    check_in::<f32>((|g, out| g.run_narrow(out), narrow::wgrad), sizes);
}

fn check_in<T: Real>(
    (run, wgrad): Passes<T>,
    (kernel, stride, x, cout, stored): (usize, usize, [usize; 4], usize, [usize; 2]),
) {
    let (xs, ws) = (Shape(x), Shape([stored[0], kernel, kernel, stored[1]]));
    let g = Conv2d { cout, kernel, stride }.geometry(xs, ws);
    let sizes = [xs.elems(), ws.elems(), g.n * g.p * g.q * cout];
    let [x, w, gy] = [0, 1, 2].map(|i| integers::<f64>(sizes[i], i as u64));
    let (mut y, mut gx, mut gw) = (vec![0.0; sizes[2]], vec![0.0; sizes[0]], w.clone());
    products(&g, |xi, wi, yi| {
        y[yi] += x[xi] * w[wi];
        gx[xi] += gy[yi] * w[wi];
        gw[wi] += gy[yi] * x[xi];
    });
    let of = |v: &[f64]| v.iter().map(|x| T::of(*x)).collect::<Vec<T>>();
    let (tx, tw, tgy) = (of(&x), of(&w), of(&gy));

    let mut out = vec![T::nan(); sizes[2]];
    run(&cpu::fprop(&g, &tx, &tw), &mut out);
    assert!(out == of(&y), "fprop {g:?}");

    let mut out = vec![T::nan(); sizes[0]];
    cpu::dgrad(&g, &tgy, &tw, false).for_each(|gather| run(&gather, &mut out));
    assert!(out == of(&gx), "dgrad {g:?}");
    let mut out = tx.clone();
    cpu::dgrad(&g, &tgy, &tw, true).for_each(|gather| run(&gather, &mut out));
    let sums: Vec<f64> = gx.iter().zip(&x).map(|(a, b)| a + b).collect();
    assert!(out == of(&sums), "dgrad, accumulated, {g:?}");

    let mut out = tw.clone();
    wgrad(&g, &tx, &tgy, &mut out);
    assert!(out == of(&gw), "wgrad {g:?}");
}

#[test]
fn integers_are_exact_for_all_kernels_strides_and_sizes() {
    for kernel in [1, 3, 5, 7] {
        for stride in [1, 2, 3] {
            for (x, cout, stored) in [
                ([1, 1, 1, 1], 1, [1, 1]),
                ([1, 2, 1, 3], 2, [2, 3]),
                ([1, 7, 5, 3], 5, [9, 4]),
                ([2, 5, 9, 9], 17, [20, 12]),
                ([3, 6, 4, 16], 24, [24, 16]),
                ([1, 9, 11, 8], 40, [48, 24]),
            ] {
                check(kernel, stride, x, cout, stored);
            }
        }
    }
}

#[test]
fn integers_are_exact_across_blocks() {
    // Channels beyond one packed depth, pixels beyond one task, a split depth of wgrad.
    check(1, 1, [1, 3, 3, 700], 70, [70, 700]);
    check(3, 1, [1, 4, 4, 330], 20, [20, 330]);
    check(3, 2, [1, 5, 5, 100], 530, [530, 104]);
    check(3, 1, [2, 30, 31, 24], 24, [24, 24]);
    check(7, 2, [2, 61, 60, 3], 16, [16, 3]);
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let conv = Conv2d { cout: 40, kernel: 3, stride: 2 };
    let (xs, ws) = (Shape([2, 41, 37, 24]), Shape([48, 3, 3, 32]));
    let g = conv.geometry(xs, ws);
    let mut rng = Philox::new(5, Purpose::Check, 0, 0);
    let mut normals = |len| (0..len).map(|_| rng.normal()).collect::<Vec<f32>>();
    let (x, w, gy) = (normals(xs.elems()), normals(ws.elems()), normals(g.n * g.p * g.q * g.cout));
    let runs = [1, 2, 8].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (mut y, mut gx, mut gw) = (gy.clone(), x.clone(), w.clone());
        pool.install(|| {
            cpu::fprop(&g, &x, &w).run(&mut y);
            cpu::dgrad(&g, &gy, &w, false).for_each(|gather| gather.run(&mut gx));
            wgrad::wgrad(&g, &x, &gy, &mut gw);
        });
        let (mut ny, mut ngx, mut ngw) = (gy.clone(), x.clone(), w.clone());
        pool.install(|| {
            cpu::fprop(&g, &x, &w).run_narrow(&mut ny);
            cpu::dgrad(&g, &gy, &w, false).for_each(|gather| gather.run_narrow(&mut ngx));
            narrow::wgrad(&g, &x, &gy, &mut ngw);
        });
        ([y, gx, gw], [ny, ngx, ngw])
    });
    assert!(runs[0] == runs[1] && runs[0] == runs[2]);
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let infer = |op: Conv2d, x, w| {
        let inputs = [Meta::new(Shape(x), DType::F32), Meta::new(Shape(w), DType::F32)];
        op.infer(&inputs).map(|m| m.shape.0).map_err(|e| e.to_string())
    };
    let op = Conv2d { cout: 4, kernel: 3, stride: 2 };
    assert_eq!(infer(op, [2, 7, 8, 3], [6, 3, 3, 5]), Ok([2, 4, 4, 4]));
    for w in [[3, 3, 3, 5], [6, 3, 3, 2], [6, 1, 1, 5]] {
        assert!(infer(op, [2, 7, 8, 3], w).unwrap_err().contains("4x3x3x3"));
    }
    assert!(infer(Conv2d { kernel: 2, ..op }, [1, 1, 1, 1], [6, 2, 2, 5]).is_err());
    assert!(infer(op, [1, 0, 4, 3], [6, 3, 3, 5]).is_err());
}
