use super::implicit_gemm::Gather;
use super::{Conv2d, Geometry, cpu, narrow, wgrad};
use crate::ops::{Measured, Op};
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
                let h = (p * g.stride + g.dilation * r).wrapping_sub(g.pad);
                let w = (q * g.stride + g.dilation * s).wrapping_sub(g.pad);
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
/// to bf16 too. A bias is longer than the output's channels.
fn check(op: Conv2d, x: [usize; 4], stored: [usize; 2]) {
    check_in::<f32>((|g, out| g.run(out), wgrad::wgrad), op, x, stored);
    check_in::<f64>((|g, out| g.run(out), wgrad::wgrad), op, x, stored);
    check_in::<f32>((|g, out| g.run_narrow(out), narrow::wgrad), op, x, stored);
}

fn check_in<T: Real>((run, wgrad): Passes<T>, op: Conv2d, x: [usize; 4], stored: [usize; 2]) {
    let (cout, kernel) = (op.cout, op.kernel);
    let (xs, ws) = (Shape(x), Shape([stored[0], kernel, kernel, stored[1]]));
    let g = op.geometry(xs, ws);
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
    run(&cpu::fprop(&g, &tx, &tw, false), &mut out);
    assert!(out == of(&y), "fprop {g:?}");
    let b = integers::<f64>(cout + 3, 3);
    let mut out = vec![T::nan(); sizes[2]];
    cpu::fill_bias(cout, &of(&b), &mut out);
    run(&cpu::fprop(&g, &tx, &tw, true), &mut out);
    let biased: Vec<f64> = y.iter().enumerate().map(|(i, y)| y + b[i % cout]).collect();
    assert!(out == of(&biased), "fprop with a bias {g:?}");
    let mut gb = b.clone();
    gy.iter().enumerate().for_each(|(i, g)| gb[i % cout] += g);
    let mut out = of(&b);
    cpu::bias_grad(cout, &tgy, &mut out);
    assert!(out == of(&gb), "gradient of the bias {g:?}");

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
                check(Conv2d::new(cout, kernel, stride), x, stored);
            }
        }
    }
}

#[test]
fn integers_are_exact_for_all_paddings_and_dilations() {
    for (kernel, stride) in [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 1), (3, 2), (4, 2)] {
        for (pad, dilation) in [(0, 1), (1, 1), (3, 1), (0, 2), (2, 2), (1, 3), (4, 4), (2, 6)] {
            for (x, cout, stored) in [
                ([1, 7, 5, 3], 5, [9, 4]),
                ([2, 5, 9, 9], 17, [20, 12]),
                ([1, 20, 23, 8], 40, [48, 24]),
            ] {
                let op = Conv2d { pad, dilation, ..Conv2d::new(cout, kernel, stride) };
                let metas = [Shape(x), Shape([stored[0], kernel, kernel, stored[1]])];
                if op.infer(&metas.map(|s| Meta::new(s, DType::F32))).is_ok() {
                    check(op, x, stored);
                }
            }
        }
    }
}

#[test]
fn integers_are_exact_across_blocks() {
    // Channels beyond one packed depth, pixels beyond one task, a split depth of wgrad.
    check(Conv2d::new(70, 1, 1), [1, 3, 3, 700], [70, 700]);
    check(Conv2d::new(20, 3, 1), [1, 4, 4, 330], [20, 330]);
    check(Conv2d::new(530, 3, 2), [1, 5, 5, 100], [530, 104]);
    check(Conv2d::new(24, 3, 1), [2, 30, 31, 24], [24, 24]);
    check(Conv2d::new(16, 7, 2), [2, 61, 60, 3], [16, 3]);
    let dilated = |cout, kernel, stride, dilation| Conv2d {
        pad: dilation,
        dilation,
        ..Conv2d::new(cout, kernel, stride)
    };
    check(dilated(20, 3, 1, 2), [1, 9, 9, 330], [20, 330]);
    check(dilated(24, 3, 1, 4), [2, 30, 31, 24], [24, 24]);
    check(dilated(530, 3, 2, 3), [1, 9, 9, 100], [530, 104]);
    check(Conv2d { pad: 0, ..Conv2d::new(70, 2, 2) }, [1, 30, 28, 330], [70, 330]);
    check(Conv2d { pad: 1, ..Conv2d::new(70, 1, 1) }, [1, 3, 3, 700], [70, 700]);
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    results_do_not_depend_on_threads(Conv2d::new(40, 3, 2));
    results_do_not_depend_on_threads(Conv2d { pad: 3, dilation: 3, ..Conv2d::new(40, 3, 1) });
}

fn results_do_not_depend_on_threads(conv: Conv2d) {
    let (xs, ws) = (Shape([2, 41, 37, 24]), Shape([48, 3, 3, 32]));
    let g = conv.geometry(xs, ws);
    let mut rng = Philox::new(5, Purpose::Check, 0, 0);
    let mut normals = |len| (0..len).map(|_| rng.normal()).collect::<Vec<f32>>();
    let (x, w, gy) = (normals(xs.elems()), normals(ws.elems()), normals(g.n * g.p * g.q * g.cout));
    let runs = [1, 2, 8].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (mut y, mut gx, mut gw) = (gy.clone(), x.clone(), w.clone());
        let mut gb = vec![1.0; 50];
        pool.install(|| {
            cpu::fprop(&g, &x, &w, false).run(&mut y);
            cpu::dgrad(&g, &gy, &w, false).for_each(|gather| gather.run(&mut gx));
            wgrad::wgrad(&g, &x, &gy, &mut gw);
            cpu::bias_grad(g.cout, &gy, &mut gb);
        });
        let (mut ny, mut ngx, mut ngw) = (gy.clone(), x.clone(), w.clone());
        pool.install(|| {
            cpu::fprop(&g, &x, &w, false).run_narrow(&mut ny);
            cpu::dgrad(&g, &gy, &w, false).for_each(|gather| gather.run_narrow(&mut ngx));
            narrow::wgrad(&g, &x, &gy, &mut ngw);
        });
        ([y, gx, gw, gb], [ny, ngx, ngw])
    });
    assert!(runs[0] == runs[1] && runs[0] == runs[2]);
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let infer = |op: Conv2d, x, w| {
        let inputs = [Meta::new(Shape(x), DType::F32), Meta::new(Shape(w), DType::F32)];
        op.infer(&inputs).map(|m| m.shape.0).map_err(|e| e.to_string())
    };
    let op = Conv2d::new(4, 3, 2);
    assert_eq!(infer(op, [2, 7, 8, 3], [6, 3, 3, 5]), Ok([2, 4, 4, 4]));
    for w in [[3, 3, 3, 5], [6, 3, 3, 2], [6, 1, 1, 5]] {
        assert!(infer(op, [2, 7, 8, 3], w).unwrap_err().contains("4x3x3x3"));
    }
    assert!(infer(op, [1, 0, 4, 3], [6, 3, 3, 5]).is_err());
    for op in [Conv2d { stride: 0, ..op }, Conv2d { dilation: 0, ..op }] {
        assert!(infer(op, [1, 5, 5, 3], [6, 3, 3, 5]).unwrap_err().contains("at least 1"));
    }
    let op = Conv2d { pad: 1, dilation: 3, ..Conv2d::new(4, 2, 1) };
    assert_eq!(infer(op, [1, 2, 5, 3], [6, 2, 2, 3]), Ok([1, 1, 4, 4]));
    for op in [op, Conv2d { dilation: usize::MAX, ..Conv2d::new(4, 2, 1) }] {
        let message = infer(op, [1, 1, 5, 3], [6, 2, 2, 3]).unwrap_err();
        assert!(message.contains("2x2 window"), "{message}");
    }
}

#[test]
fn biases_that_do_not_fit_are_named() {
    let x = [Shape([1, 2, 2, 3]), Shape([6, 1, 1, 3])].map(|s| Meta::new(s, DType::BF16));
    let infer = |b, dtype| {
        let inputs = [x[0], x[1], Meta::new(b, dtype)];
        Conv2d::new(4, 1, 1).infer(&inputs).map(|m| m.dtype).map_err(|e| e.to_string())
    };
    assert_eq!(infer(Shape::vector(4), DType::F32), Ok(DType::BF16));
    for (b, dtype) in [(Shape::vector(3), DType::F32), (Shape::vector(4), DType::BF16)] {
        assert!(infer(b, dtype).unwrap_err().contains("a bias of at least 1x1x1x4 in F32"));
    }
}

#[test]
fn labels_name_what_is_unusual() {
    let inputs = [Shape([8, 56, 56, 48]), Shape([80, 3, 3, 80]), Shape::vector(64)];
    let inputs = inputs.map(|s| Meta::new(s, DType::F32));
    let label = |op: Conv2d, n: usize| op.label(&inputs[..n]);
    assert_eq!(label(Conv2d::new(64, 3, 2), 2), "3x3 stride 2, 8x56x56x48 to 64 of 80x80");
    let op = Conv2d { pad: 4, dilation: 4, ..Conv2d::new(64, 3, 1) };
    let expected = "3x3 stride 1 pad 4 dilation 4, 8x56x56x48 to 64 of 80x80, bias";
    assert_eq!(label(op, 3), expected);
}

#[test]
fn what_is_read_is_counted() {
    let used = |op: Conv2d, side| {
        let inputs = [Shape([1, side, side, 2]), Shape([4, op.kernel, op.kernel, 2])];
        op.used(&inputs.map(|s| Meta::new(s, DType::F32)))
    };
    assert_eq!(used(Conv2d::new(4, 3, 1), 5), [50, 72]);
    assert_eq!(used(Conv2d::new(3, 1, 2), 5), [18, 6]);
    // Rows 0, 1, 3, 4 of six, and 0, 2, 4 of six.
    assert_eq!(used(Conv2d { pad: 0, ..Conv2d::new(4, 2, 3) }, 6), [32, 32]);
    assert_eq!(used(Conv2d { pad: 0, dilation: 2, ..Conv2d::new(4, 3, 1) }, 5)[0], 18);
    assert_eq!(used(Conv2d { pad: 0, dilation: 2, ..Conv2d::new(4, 2, 2) }, 6)[0], 18);
}
