use super::*;
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
    let picture = |n| {
        let t = log_softmax(x, channels[0], n);
        let s = log_softmax(y, channels[1], n);
        let row =
            |(t, s): (&Vec<f64>, &Vec<f64>)| t.iter().zip(s).map(|(t, s)| t.exp() * s).sum::<f64>();
        t.iter().zip(&s).map(row).sum::<f64>() / hw as f64
    };
    (0..shape.n()).map(picture).collect()
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
    let teacher = Teacher::new(&cx, &teacher).unwrap();
    let found = teacher.score(&cx, &student, tau).unwrap();
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() <= tolerance, "{hw:?} tau {tau}: {found} {expected}");
    }
    let stored = Teacher::from_normalised(teacher.normalised(&cx).unwrap());
    assert_eq!(stored.score(&cx, &student, tau).unwrap(), found);
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
    let teacher = Teacher::new(&cx, &maps[0]).unwrap();
    let scores: Vec<f64> = maps.iter().map(|m| teacher.score(&cx, m, 0.2).unwrap()[0]).collect();
    assert!(scores[1..].iter().all(|s| *s < scores[0]), "{scores:?}");
}

#[test]
fn threads_do_not_change_the_score() {
    let shape = Shape::nhwc(2, 29, 31, 24);
    let score = |threads| {
        let cx = Cx::cpu(threads).unwrap();
        let teacher = cx.upload(shape, DType::F32, &features(shape, 1)).unwrap();
        let student = cx.upload(shape, DType::F32, &features(shape, 2)).unwrap();
        cx.install(|| Teacher::new(&cx, &teacher).unwrap().score(&cx, &student, 0.2).unwrap())
    };
    assert_eq!(score(1), score(3));
}

#[test]
fn misfits_are_errors() {
    let cx = Cx::for_tests();
    let map = |shape| cx.full(shape, DType::F32, 1.0).unwrap();
    let teacher = Teacher::new(&cx, &map(Shape::nhwc(2, 3, 4, 5))).unwrap();
    assert!(teacher.score(&cx, &map(Shape::nhwc(2, 3, 4, 7)), 0.2).is_ok());
    assert!(teacher.score(&cx, &map(Shape::nhwc(1, 3, 4, 5)), 0.2).is_err());
    assert!(teacher.score(&cx, &map(Shape::nhwc(2, 4, 3, 5)), 0.2).is_err());
    for tau in [0.0, -1.0, 0.01, f64::NAN, f64::INFINITY] {
        assert!(teacher.score(&cx, &map(Shape::nhwc(2, 3, 4, 5)), tau).is_err());
    }
    assert!(Teacher::new(&cx, &map(Shape::nhwc(1, 0, 3, 4))).is_err());
}
