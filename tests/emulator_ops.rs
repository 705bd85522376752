//! The kernels of the ops on the emulator: what no case can say. The cases are in `ops.rs`.
#![cfg(feature = "emulator")]

use std::sync::Arc;

use engine::Kind;
use engine::cx::Cx;
use engine::device::emulator::Emulator;
use engine::ops::add::accumulate;
use engine::ops::batch_norm::{BatchNorm, Running};
use engine::ops::bce_logits::BceLogits;
use engine::ops::box_loss::BoxLoss;
use engine::ops::check::values;
use engine::ops::conv2d::Conv2d;
use engine::ops::cross_entropy::{self, CrossEntropy};
use engine::ops::gather_rows::GatherRows;
use engine::ops::max_pool::MaxPool;
use engine::ops::relu::Relu;
use engine::ops::roi_align::RoiAlign;
use engine::ops::seg_loss::{IGNORED, SegLoss};
use engine::ops::{Fill, Grad, Op, index_select};
use engine::tensor::{DType, Shape, Tensor};

fn emulator() -> Cx {
    Cx::device(Arc::new(Emulator::new(0).unwrap()), 1).unwrap()
}

fn cpu() -> Cx {
    Cx::cpu(1).unwrap()
}

/// Output and gradients of the wanted inputs, given the gradient of the output.
fn run<O: Op>(op: &O, cx: &Cx, inputs: &[Tensor], wanted: &[bool], gy: &[f32]) -> Vec<Vec<f32>> {
    cx.install(|| {
        let (y, saved) = op.forward(cx, &inputs.iter().collect::<Vec<_>>()).unwrap();
        let gy = cx.upload(y.shape(), y.dtype(), gy).unwrap();
        let mut out = vec![cx.download(&y).unwrap()];
        drop(y);
        let slot = |wanted: &bool| if *wanted { Grad::wanted(None) } else { Grad::unwanted() };
        let mut grads: Vec<Grad> = wanted.iter().map(slot).collect();
        op.backward(cx, saved, gy, &mut grads).unwrap();
        let value = |g: Grad| g.into_value().map(|g| cx.download(&g).unwrap());
        out.extend(grads.into_iter().map(|g| value(g).unwrap_or_default()));
        out
    })
}

/// The bits, with one pattern for all NaN.
fn bits(all: &[Vec<f32>]) -> Vec<Vec<u32>> {
    let bits = |x: &f32| if x.is_nan() { u32::MAX } else { x.to_bits() };
    all.iter().map(|x| x.iter().map(bits).collect()).collect()
}

/// Small whole numbers, many of them equal, with NaN and infinities among them.
fn ties(shape: Shape) -> Vec<f32> {
    let mut x = values(shape, Fill::Integers { lo: -2, hi: 2 }, 7);
    for (i, special) in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0].into_iter().enumerate() {
        x.iter_mut().skip(3 * i).step_by(29 + i).for_each(|x| *x = special);
    }
    // An image's corner where nothing is greater than −∞.
    x[..2 * shape.c()].fill(f32::NEG_INFINITY);
    x
}

#[test]
fn ties_and_values_that_are_not_finite_go_as_on_the_cpu() {
    for [n, h, w, c] in [[2, 7, 5, 8], [1, 6, 4, 3]] {
        let shape = Shape::nhwc(n, h, w, c);
        let pooled = Shape::nhwc(n, h.div_ceil(2), w.div_ceil(2), c);
        let (x, gx) = (ties(shape), values(shape, Fill::Integers { lo: -9, hi: 9 }, 8));
        let gy = values(pooled, Fill::Integers { lo: -9, hi: 9 }, 9);
        let [expected, found] = [cpu(), emulator()].map(|cx| {
            let x = [cx.upload(shape, DType::F32, &x).unwrap()];
            [run(&Relu, &cx, &x, &[true], &gx), run(&MaxPool, &cx, &x, &[true], &gy)]
        });
        assert_eq!(bits(&found[0]), bits(&expected[0]));
        assert_eq!(bits(&found[1]), bits(&expected[1]));
    }
}

#[test]
fn sums_of_gradients_are_rounded_once() {
    let (cx, shape) = (emulator(), Shape::vector(21));
    let [a, b] = [1, 2].map(|seed| values(shape, Fill::Integers { lo: -99, hi: 99 }, seed));
    let upload = |values: &[f32]| cx.upload(shape, DType::BF16, values).unwrap();
    let (mut sum, x) = (upload(&a), upload(&b));
    accumulate(&cx, &mut sum, &x).unwrap();
    let expected: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
    assert_eq!(cx.download(&sum).unwrap(), expected);
    let other = cx.upload(Shape::vector(20), DType::BF16, &[0.0; 20]).unwrap();
    assert!(accumulate(&cx, &mut sum, &other).is_err());
}

#[test]
fn images_are_gathered_from_several_tensors() {
    let cx = emulator();
    let order = [4, 0, 6, 6, 2];
    for (c, dtype) in [(3, DType::F32), (8, DType::F32), (8, DType::BF16), (5, DType::BF16)] {
        let image = 3 * c;
        let x: Vec<f32> = (0..7 * image).map(|i| (i % 256) as f32).collect();
        let part = |from: usize, to: usize| {
            let shape = Shape::nhwc(to - from, 3, 1, c);
            cx.upload(shape, dtype, &x[from * image..to * image]).unwrap()
        };
        let y = index_select::rows_of(&cx, &[part(0, 3), part(3, 4), part(4, 7)], &order).unwrap();
        let expected = order.iter().flat_map(|i| &x[i * image..][..image]);
        assert_eq!(cx.download(&y).unwrap(), expected.copied().collect::<Vec<_>>());
        assert!(index_select::rows(&cx, &y, &[5]).is_err());
        assert_eq!(index_select::rows(&cx, &y, &[]).unwrap().shape().n(), 0);
    }
}

#[test]
fn integers_are_kept() {
    let shape = Shape::nhwc(3, 1, 1, 2);
    let values = [7, -1, i32::MAX, i32::MIN, 0, (1 << 24) + 1];
    for cx in [cpu(), emulator()] {
        let x = cx.upload_i32(shape, &values).unwrap();
        assert_eq!(cx.download_i32(&x).unwrap(), values);
        assert_eq!(cx.download_i32(&cx.copy(&x).unwrap()).unwrap(), values);
        let rows = index_select::rows_of(&cx, &[x.clone(), x.clone()], &[5, 0]).unwrap();
        assert_eq!(cx.download_i32(&rows).unwrap(), [0, (1 << 24) + 1, 7, -1]);
        let full = cx.full(shape, DType::I32, -5.0).unwrap();
        assert_eq!(cx.download_i32(&full).unwrap(), [-5; 6]);
        assert_eq!(cx.download_i32(&cx.zeros(shape, DType::I32).unwrap()).unwrap(), [0; 6]);
        for e in [
            cx.full(shape, DType::I32, 0.5).err(),
            cx.upload(shape, DType::I32, &[0.0; 6]).err(),
            cx.download(&x).err(),
            cx.download_i32(&cx.zeros(shape, DType::F32).unwrap()).err(),
            accumulate(&cx, &mut cx.copy(&x).unwrap(), &x).err(),
        ] {
            assert_eq!(e.unwrap().kind(), Kind::Usage);
        }
    }
}

/// On the CPU an error at once; on a device NaN, of the loss and of the row's gradient alone.
#[test]
fn labels_that_are_no_class_are_noticed() {
    let logits = values(Shape::matrix(3, 4), Fill::Normal, 1);
    for wrong in [4, -1, i32::MIN] {
        let inputs = |cx: &Cx| {
            let logits = cx.upload(Shape::matrix(3, 4), DType::F32, &logits).unwrap();
            [logits, cx.upload_i32(Shape::matrix(3, 1), &[3, wrong, 0]).unwrap()]
        };
        let (on_cpu, cx) = (cpu(), emulator());
        let [x, labels] = inputs(&on_cpu);
        let e = CrossEntropy { weight: 1.0 }.forward(&on_cpu, &[&x, &labels]).unwrap_err();
        assert!(e.kind() == Kind::Data && e.to_string().contains("in row 1"), "{e}");
        let out = run(&CrossEntropy { weight: 1.0 }, &cx, &inputs(&cx), &[true, false], &[1.0]);
        assert!(out[0][0].is_nan());
        let is_nan: Vec<bool> = out[1].chunks(4).map(|g| g.iter().all(|g| g.is_nan())).collect();
        assert_eq!(is_nan, [false, true, false]);
        assert!(out[1][..4].iter().chain(&out[1][8..]).all(|g| g.is_finite()));
    }
    for cx in [cpu(), emulator()] {
        let labels = |labels: &[usize]| cross_entropy::labels(&cx, labels, 4);
        assert_eq!(cx.download_i32(&labels(&[3, 0]).unwrap()).unwrap(), [3, 0]);
        assert_eq!(labels(&[0, 4]).unwrap_err().kind(), Kind::Data);
        assert_eq!(labels(&[usize::MAX]).unwrap_err().kind(), Kind::Data);
    }
}

/// Only the cells around a pixel get a gradient from it, or NaN where its label is no class; on the
/// CPU that is an error at once.
#[test]
fn pixels_count_where_they_have_a_class() {
    let (shape, size) = (Shape::nhwc(2, 3, 4, 5), Shape::nhwc(2, 9, 10, 1));
    let logits = values(shape, Fill::Normal, 1);
    // Between rows 1 and 2 and columns 2 and 3 of the second image's logits.
    let (row, column) = (5, 7);
    let inputs = |cx: &Cx, label| {
        let mut labels = vec![IGNORED; size.elems()];
        labels[size.positions() + row * size.w() + column] = label;
        let logits = cx.upload(shape, DType::F32, &logits).unwrap();
        [logits, cx.upload_i32(size, &labels).unwrap()]
    };
    let op = SegLoss { align_corners: false, weight: 1.0 };
    let around = [1, 2].map(|y| [2, 3].map(|x| (3 + y) * 4 + x)).concat();
    let cells = |g: &[f32], is: fn(&f32) -> bool| -> Vec<usize> {
        let cells = g.chunks(5).enumerate().filter(|(_, g)| g.iter().all(is));
        cells.map(|(i, _)| i).collect()
    };
    let of_one =
        [cpu(), emulator()].map(|cx| run(&op, &cx, &inputs(&cx, 3), &[true, false], &[1.0]));
    for out in &of_one {
        assert!(out[0][0] > 0.0 && out[0][0].is_finite());
        assert_eq!(cells(&out[1], |g| *g != 0.0), around);
        assert_eq!(cells(&out[1], |g| *g == 0.0).len(), 24 - 4);
    }
    for wrong in [5, -2, i32::MAX, i32::MIN] {
        let on_cpu = cpu();
        let [x, labels] = inputs(&on_cpu, wrong);
        let e = op.forward(&on_cpu, &[&x, &labels]).unwrap_err();
        assert!(e.kind() == Kind::Data, "{e}");
        assert!(e.to_string().contains("in row 5, column 7 of image 1"), "{e}");
        let cx = emulator();
        let out = run(&op, &cx, &inputs(&cx, wrong), &[true, false], &[1.0]);
        assert!(out[0][0].is_nan());
        assert_eq!(cells(&out[1], |g| g.is_nan()), around);
        assert_eq!(cells(&out[1], |g| *g == 0.0).len(), 24 - 4);
    }
}

/// Smaller tiles, but the same sums.
#[test]
fn bits_do_not_depend_on_the_shared_memory_of_a_block() {
    let emulator = Arc::new(Emulator::new(0).unwrap());
    let cx = Cx::device(emulator.clone(), 1).unwrap();
    for (cout, kernel, x) in
        [(128, 1, [2, 17, 16, 128]), (144, 3, [1, 5, 6, 128]), (48, 1, [1, 2, 3, 48])]
    {
        let op = Conv2d::new(cout, kernel, 1);
        let shapes = [Shape(x), Shape([cout, kernel, kernel, x[3]])];
        let inputs = shapes
            .map(|s| cx.upload(s, DType::BF16, &values(s, Fill::Normal, s.n() as u64)).unwrap());
        let gy = values(Shape([x[0], x[1], x[2], cout]), Fill::Normal, 5);
        let on_kib = |kib: u32| {
            emulator.limit_shared(kib << 10);
            emulator.count(true);
            let out = run(&op, &cx, &inputs, &[true, true], &gy);
            (out, emulator.take_counters().into_keys().collect::<Vec<_>>())
        };
        let (large, small) = (on_kib(227), on_kib(99));
        assert_eq!(on_kib(163), large);
        assert!(large.0.iter().flatten().all(|x| x.is_finite()));
        assert_eq!(large.0, small.0, "{op:?}");
        assert_eq!(large.1 == small.1, cout == 48, "{:?} {:?}", large.1, small.1);
    }
}

#[test]
fn running_statistics_are_those_of_the_cpu() {
    for (shape, dtype) in [
        (Shape::nhwc(5, 9, 7, 24), DType::F32),
        (Shape::nhwc(40, 9, 7, 24), DType::BF16),
        (Shape::nhwc(2, 1, 2, 3), DType::BF16),
    ] {
        // bf16 holds multiples of 1/2 up to 128.
        let x: Vec<f32> = values(shape, Fill::Integers { lo: 190, hi: 210 }, 3);
        let x: Vec<f32> = x.into_iter().map(|x| x / 2.0).collect();
        let run = |cx: Cx, dtype| {
            // A second batch of fewer images, which weigh the same.
            let fewer = Shape([shape.n() - 1, shape.h(), shape.w(), shape.c()]);
            let second = cx.upload(fewer, dtype, &x[..fewer.elems()]).unwrap();
            let x = cx.upload(shape, dtype, &x).unwrap();
            let mut running = Running::new(&cx, x.meta()).unwrap();
            let mut add = |x: &Tensor| cx.install(|| running.add(&cx, x)).unwrap();
            let own = [add(&x), add(&second)];
            let (mean, var) = running.averages(&cx).unwrap();
            assert_eq!((mean.dtype(), var.dtype()), (DType::F32, DType::F32));
            let all = [&mean, &var].into_iter().chain(&own);
            all.flat_map(|t| cx.download(t).unwrap()).collect::<Vec<f32>>()
        };
        let (expected, found) = (run(cpu(), DType::F32), run(emulator(), dtype));
        assert_eq!((expected.len(), found.len()), (6 * shape.c(), 6 * shape.c()));
        for (e, f) in expected.iter().zip(&found) {
            assert!((e - f).abs() <= 1e-6 * e.abs(), "{e} {f}");
        }
    }
}

/// Which gradients of a batch norm are wanted changes none of them; γ and β may be stored for
/// different numbers of channels.
#[test]
fn gradients_of_batch_norm_do_not_depend_on_which_are_wanted() {
    let (cx, shape) = (emulator(), Shape::nhwc(3, 2, 3, 8));
    let inputs: Vec<Tensor> = [shape, Shape::vector(10), Shape::vector(13), shape]
        .iter()
        .enumerate()
        .map(|(i, s)| cx.upload(*s, DType::F32, &values(*s, Fill::Normal, i as u64)).unwrap())
        .collect();
    let gy = values(shape, Fill::Normal, 9);
    let op = BatchNorm::batch(2).add().relu();
    let all = run(&op, &cx, &inputs, &[true; 4], &gy);
    assert!(all[2][..8].iter().all(|g| *g != 0.0) && all[2][8..] == [0.0; 2]);
    assert!(all[3][..8].iter().all(|g| *g != 0.0) && all[3][8..] == [0.0; 5]);
    for set in 0..16 {
        let wanted = [0, 1, 2, 3].map(|i| set >> i & 1 == 1);
        let some = run(&op, &cx, &inputs, &wanted, &gy);
        for i in 0..4 {
            let expected = if wanted[i] { &all[i + 1][..] } else { &[] };
            assert_eq!(some[i + 1], expected, "gradient {i} of {wanted:?}");
        }
    }
}

/// Indices and RoIs that are not there: on the CPU an error at once; on a device NaN in their rows,
/// and no gradient.
#[test]
fn rows_and_regions_that_are_not_there_are_noticed() {
    let map = Shape::nhwc(2, 3, 4, 2);
    let x = values(map, Fill::Normal, 1);
    let is_nan = |rows: &[f32], row: usize| -> Vec<bool> {
        rows.chunks(row).map(|row| row.iter().all(|x| x.is_nan())).collect()
    };
    let finite = |x: &[f32]| x.iter().all(|x| x.is_finite());
    for wrong in [24, -1] {
        let inputs = |cx: &Cx| {
            let x = cx.upload(map, DType::F32, &x).unwrap();
            [x, cx.upload_i32(Shape::matrix(3, 1), &[3, wrong, 23]).unwrap()]
        };
        let op = GatherRows { width: 2 };
        let (on_cpu, cx) = (cpu(), emulator());
        let e = op.forward(&on_cpu, &inputs(&on_cpu).each_ref()).unwrap_err();
        assert!(e.kind() == Kind::Data && e.to_string().contains("at 1"), "{e}");
        let out = run(&op, &cx, &inputs(&cx), &[true, false], &[1.0; 6]);
        assert_eq!(is_nan(&out[0], 2), [false, true, false]);
        assert_eq!(out[1].iter().sum::<f32>(), 4.0);
    }
    let twice = [cpu().upload_i32(Shape::matrix(2, 1), &[5, 5]).unwrap()];
    let x_on_cpu = cpu().upload(map, DType::F32, &x).unwrap();
    let e = GatherRows { width: 2 }.forward(&cpu(), &[&x_on_cpu, &twice[0]]).unwrap_err();
    assert!(e.to_string().contains("5 twice"), "{e}");

    let right = [[0.0, 0.0, 1.0, 1.0, 9.0, 9.0], [1.0, 0.0, 0.0, 0.0, 8.0, 8.0]];
    let op = RoiAlign { size: 2, scales: vec![0.25] };
    for (column, wrong) in
        [(0, 2.0), (0, 0.5), (0, f32::NAN), (1, 1.0), (1, -1.0), (2, 3e6), (5, f32::INFINITY)]
    {
        let mut middle = [1.0, 0.0, 1.0, 1.0, 9.0, 9.0];
        middle[column] = wrong;
        let rois = [right[0], middle, right[1]].concat();
        let inputs = |cx: &Cx| {
            let x = cx.upload(map, DType::F32, &x).unwrap();
            [x, cx.upload(Shape::matrix(3, 6), DType::F32, &rois).unwrap()]
        };
        let (on_cpu, cx) = (cpu(), emulator());
        let e = op.forward(&on_cpu, &inputs(&on_cpu).each_ref()).unwrap_err();
        assert!(e.kind() == Kind::Data && e.to_string().contains("in row 1"), "{e}");
        let out = run(&op, &cx, &inputs(&cx), &[true, false], &[1.0; 24]);
        assert_eq!(is_nan(&out[0], 8), [false, true, false], "{column}: {wrong}");
        assert!(finite(&out[0][..8]) && finite(&out[1]));
    }
    let cx = cpu();
    let rois = cx.upload(Shape::matrix(2, 6), DType::F32, &[right[1], right[0]].concat()).unwrap();
    let e = op.forward(&cx, &[&x_on_cpu, &rois]).unwrap_err();
    assert!(e.to_string().contains("sorted") && e.to_string().contains("in row 1"), "{e}");
}

/// The same for channels and boxes that are selected.
#[test]
fn selections_that_are_not_there_are_noticed() {
    let select = |cx: &Cx, wrong| cx.upload_i32(Shape::matrix(3, 1), &[1, wrong, 0]).unwrap();
    let upload = |cx: &Cx, shape: Shape| {
        cx.upload(shape, DType::F32, &values(shape, Fill::Normal, 1)).unwrap()
    };
    for wrong in [2, -1, -2] {
        let on_cpu = cpu();
        let cx = emulator();
        let masks = |cx: &Cx| {
            [
                upload(cx, Shape::nhwc(3, 2, 2, 2)),
                upload(cx, Shape::nhwc(3, 2, 2, 1)),
                select(cx, wrong),
            ]
        };
        let boxes = |cx: &Cx| {
            [upload(cx, Shape::matrix(3, 8)), upload(cx, Shape::matrix(3, 4)), select(cx, wrong)]
        };
        let (mask_loss, box_loss) = (BceLogits { weight: 1.0 }, BoxLoss { beta: 0.0, weight: 1.0 });
        let e = mask_loss.forward(&on_cpu, &masks(&on_cpu).each_ref()).unwrap_err();
        assert!(e.kind() == Kind::Data && e.to_string().contains("in row 1"), "{e}");
        // −1 selects no box.
        let taken = box_loss.forward(&on_cpu, &boxes(&on_cpu).each_ref());
        assert_eq!(taken.err().map(|e| e.kind()), (wrong != -1).then_some(Kind::Data));
        let wanted = [true, false, false];
        let of_masks = run(&mask_loss, &cx, &masks(&cx), &wanted, &[1.0]);
        let of_boxes = run(&box_loss, &cx, &boxes(&cx), &wanted, &[1.0]);
        for (out, noticed) in [(of_masks, true), (of_boxes, wrong != -1)] {
            assert_eq!(out[0][0].is_nan(), noticed);
            let rows: Vec<bool> = out[1].chunks(8).map(|g| g.iter().all(|g| g.is_nan())).collect();
            assert_eq!(rows, [false, noticed, false]);
            assert!(out[1][..8].iter().chain(&out[1][16..]).all(|g| g.is_finite()));
        }
    }
}
