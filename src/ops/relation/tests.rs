use std::sync::Arc;

use super::*;
use crate::device::emulator::{Emulator, Races};
use crate::rng::{Philox, Purpose};
use crate::tensor::DType;

/// Equation by equation, in f64, with the whole matrices.
fn naive(shape: Shape, x: &[f64], channels: [usize; 2], y: &[f64], tau: f64) -> Vec<f64> {
    let hw = shape.positions();
    let log_softmax = |x: &[f64], c: usize, n: usize| -> Vec<Vec<f64>> {
        let rows: Vec<&[f64]> = x[n * hw * c..(n + 1) * hw * c].chunks(c).collect();
        let norm = |r: &[f64]| r.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12);
        let cosine = |a: &[f64], b: &[f64]| {
            a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / (norm(a) * norm(b))
        };
        let log_row = |a: &&[f64]| -> Vec<f64> {
            let s: Vec<f64> = rows.iter().map(|b| cosine(a, b) / tau).collect();
            let lse = s.iter().map(|s| s.exp()).sum::<f64>().ln();
            s.iter().map(|s| s - lse).collect()
        };
        rows.iter().map(log_row).collect()
    };
    let image = |n| {
        let t = log_softmax(x, channels[0], n);
        let s = log_softmax(y, channels[1], n);
        let row =
            |(t, s): (&Vec<f64>, &Vec<f64>)| t.iter().zip(s).map(|(t, s)| t.exp() * s).sum::<f64>();
        t.iter().zip(&s).map(row).sum::<f64>() / hw as f64
    };
    (0..shape.n()).map(image).collect()
}

/// Features as nets make them: no value below 0, and with a position of zeros.
fn features(shape: Shape, seed: u64) -> Vec<f32> {
    let mut rng = Philox::new(seed, Purpose::Check, 0, 0);
    let mut x: Vec<f32> = (0..shape.elems()).map(|_| rng.normal().max(0.0)).collect();
    x[..shape.c()].fill(0.0);
    x
}

fn compare(hw: [usize; 2], channels: [usize; 2], tau: f64, tolerance: f64, dtype: DType) {
    let cx = Cx::for_tests();
    let shape = |c| Shape::nhwc(2, hw[0], hw[1], c);
    let (x, y) = (features(shape(channels[0]), 1), features(shape(channels[1]), 2));
    let wide = |x: &[f32]| x.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
    let expected = naive(shape(1), &wide(&x), channels, &wide(&y), tau);
    let teacher = cx.upload(shape(channels[0]), dtype, &x).unwrap();
    let student = cx.upload(shape(channels[1]), dtype, &y).unwrap();
    let meta = teacher.meta();
    let teacher = Teacher::new(&cx, &teacher, tau).unwrap();
    let found = teacher.score(&cx, &student).unwrap();
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() <= tolerance, "{hw:?} tau {tau}: {found} {expected}");
    }
    if dtype == DType::F32 {
        let numbers = teacher.numbers(&cx).unwrap();
        let stored = Teacher::from_numbers(&cx, meta, &numbers, tau).unwrap();
        assert_eq!(stored.score(&cx, &student).unwrap(), found);
    }
}

#[test]
fn scores_are_those_of_the_equations() {
    for (hw, channels) in [
        ([1, 1], [4, 3]),
        ([7, 7], [64, 40]),
        ([11, 13], [16, 24]),
        ([14, 30], [12, 12]),
        ([31, 25], [8, 9]),
    ] {
        for tau in [MIN_TAU, 0.07, 0.2, 1.0] {
            compare(hw, channels, tau, 1e-9, DType::F64);
            compare(hw, channels, tau, 1e-5 * (0.2 / tau).max(1.0), DType::F32);
        }
    }
}

#[test]
fn the_teacher_itself_scores_best() {
    let cx = Cx::for_tests();
    let shape = Shape::nhwc(1, 6, 6, 16);
    let maps: Vec<Tensor> =
        (0..5).map(|i| cx.upload(shape, DType::F32, &features(shape, i)).unwrap()).collect();
    let teacher = Teacher::new(&cx, &maps[0], 0.2).unwrap();
    let scores: Vec<f64> = maps.iter().map(|m| teacher.score(&cx, m).unwrap()[0]).collect();
    assert!(scores[1..].iter().all(|s| *s < scores[0]), "{scores:?}");
}

#[test]
fn threads_do_not_change_the_score() {
    let shape = Shape::nhwc(2, 29, 31, 24);
    let score = |threads| {
        let cx = Cx::cpu(threads).unwrap();
        let teacher = cx.upload(shape, DType::F32, &features(shape, 1)).unwrap();
        let student = cx.upload(shape, DType::F32, &features(shape, 2)).unwrap();
        cx.install(|| Teacher::new(&cx, &teacher, 0.2).unwrap().score(&cx, &student).unwrap())
    };
    assert_eq!(score(1), score(3));
}

#[test]
fn misfits_are_errors() {
    let cx = Cx::for_tests();
    let map = |shape| cx.full(shape, DType::F32, 1.0).unwrap();
    let teacher = Teacher::new(&cx, &map(Shape::nhwc(2, 3, 4, 5)), 0.2).unwrap();
    assert!(teacher.score(&cx, &map(Shape::nhwc(2, 3, 4, 7))).is_ok());
    assert!(teacher.score(&cx, &map(Shape::nhwc(1, 3, 4, 5))).is_err());
    assert!(teacher.score(&cx, &map(Shape::nhwc(2, 4, 3, 5))).is_err());
    for tau in [0.0, -1.0, 0.01, f64::NAN, f64::INFINITY] {
        assert!(Teacher::new(&cx, &map(Shape::nhwc(2, 3, 4, 5)), tau).is_err());
    }
    assert!(Teacher::new(&cx, &map(Shape::nhwc(1, 0, 3, 4)), 0.2).is_err());
    let (meta, mut numbers) = (Meta::new(Shape::nhwc(2, 3, 4, 5), DType::F32), vec![1.0; 120]);
    assert!(Teacher::from_numbers(&cx, meta, &numbers, 0.2).is_ok());
    numbers.pop();
    assert!(Teacher::from_numbers(&cx, meta, &numbers, 0.2).is_err());
}

#[test]
#[cfg_attr(not(feature = "emulator"), ignore = "needs the cargo feature emulator")]
fn half_of_each_matrix_is_multiplied_and_the_teacher_summed_once() {
    let emulator = Arc::new(Emulator::new(1).unwrap());
    let cx = Cx::device(emulator.clone(), 1).unwrap();
    let map = |c, seed| {
        let shape = Shape::nhwc(2, 20, 23, c);
        cx.upload(shape, DType::BF16, &features(shape, seed)).unwrap()
    };
    let students = [map(32, 1), map(64, 2), map(96, 3)];
    emulator.count(true);
    let of_teacher = map(64, 0);
    let teacher = Teacher::new(&cx, &of_teacher, 0.2).unwrap();
    let numbers = teacher.numbers(&cx).unwrap();
    for student in &students {
        let stored = Teacher::from_numbers(&cx, of_teacher.meta(), &numbers, 0.2).unwrap();
        stored.score(&cx, student).unwrap();
    }
    let counters = emulator.take_counters();
    // 460 positions: of 4 x 8 tiles of 128 x 64 those in which a column is no less than a row.
    let tiles: u64 = 2 * (8 + 6 + 4 + 2) * 128 * 64;
    let teacher = counters["relation_teacher_bf16"];
    assert_eq!((teacher.launches, teacher.tensor_issued), (1, tiles * 64));
    let student = counters["relation_student_bf16"];
    let channels = (64 + 32) + (64 + 64) + (64 + 96);
    assert_eq!((student.launches, student.tensor_issued), (3, tiles * channels));
    assert_eq!(student.shared_wavefronts, student.shared_least_wavefronts);
    assert_eq!(counters["relation_lengths_bf16"].launches, 4);
}

/// Bytes that a teacher of a map of `h` × `w` takes on a device beside its features, and most
/// that a score takes beside both maps. The score is that of the CPU.
fn device_bytes(h: usize, w: usize) -> [usize; 2] {
    let emulator = Arc::new(Emulator::new(2).unwrap());
    // The checks look for them, in smaller maps.
    emulator.check_races(Races::Nowhere);
    let cx = Cx::device(emulator, 1).unwrap();
    let shape = Shape::nhwc(1, h, w, 8);
    let maps = |cx: &Cx, dtype| {
        [1, 2].map(|seed| cx.upload(shape, dtype, &features(shape, seed)).unwrap())
    };
    let [teacher, student] = maps(&cx, DType::BF16);
    let before = cx.memory().live_bytes;
    let teacher = Teacher::new(&cx, &teacher, 0.2).unwrap();
    let prepared = cx.memory().live_bytes;
    let found = teacher.score(&cx, &student).unwrap()[0];
    let cpu = Cx::cpu(2).unwrap();
    let [teacher, student] = maps(&cpu, DType::F64);
    let expected = cpu
        .install(|| Teacher::new(&cpu, &teacher, 0.2).unwrap().score(&cpu, &student).unwrap()[0]);
    assert!((found - expected).abs() <= 1e-3, "{h} × {w}: {found}, the CPU has {expected}");
    println!("{h} × {w}: {found}, the CPU has {expected}");
    [prepared - before, cx.memory().peak_bytes - prepared]
}

#[test]
#[cfg_attr(not(feature = "emulator"), ignore = "needs the cargo feature emulator")]
fn memory_grows_with_the_positions_of_a_device_s_maps() {
    // Of a position: three numbers of 4 bytes; two sums of 8, two lengths and a score of 4.
    // The pool rounds up by an eighth at most. One row of a matrix would be thousands.
    for (h, w) in [(24, 24), (25, 100)] {
        let [kept, scratch] = device_bytes(h, w);
        let most = |bytes: usize| bytes * h * w * 9 / 8 + 64 * 8;
        assert!(kept <= most(12), "{h} × {w}: {kept} bytes");
        assert!(scratch <= most(28), "{h} × {w}: {scratch} bytes");
    }
}

/// Up to as many positions as stage 1 has in the paper's detection studies.
#[test]
#[ignore = "takes from minutes to an hour on the emulator; run by hand"]
fn large_maps_take_little_memory() {
    for (h, w) in [(100, 200), (200, 334)] {
        let [kept, scratch] = device_bytes(h, w);
        println!("{} positions: {kept} bytes of the teacher, {scratch} of a score", h * w);
    }
}
