use super::mean;
use crate::cx::Cx;
use crate::ops::check::values;
use crate::ops::info_nce::InfoNCE;
use crate::ops::{Fill, Grad, Op};
use crate::tensor::{DType, Shape, Tensor};

const TAUS: [f64; 2] = [0.04, 0.1];

/// ln Σ exp(x), and the softmax.
fn softmax(x: &[f64]) -> (f64, Vec<f64>) {
    let most = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = x.iter().map(|x| (x - most).exp()).sum();
    (most + total.ln(), x.iter().map(|x| (x - most).exp() / total).collect())
}

/// Logits of each row of `a` against those of `b`, at a temperature.
fn logits(a: &[f64], b: &[f64], d: usize, tau: f64) -> Vec<Vec<f64>> {
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / tau;
    a.chunks(d).map(|a| b.chunks(d).map(|b| product(a, b)).collect()).collect()
}

#[track_caller]
fn assert_close(found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-12 * (1.0 + expected.abs()), "{found}, {expected}");
}

/// ReSSL's loss, the cross-entropy of two softmaxes over the whole queue, is that of InfoNCE with
/// the mean of the queue as target, in value and gradient; and the teacher's entropy follows from
/// the same numbers.
#[test]
fn ressl_needs_no_logits() {
    let cx = Cx::for_tests();
    let (n, d, rows) = (7, 24, 700);
    let unit = |n, seed| -> Tensor {
        let shape = Shape::matrix(n, d);
        cx.upload(shape, DType::F64, &values(shape, Fill::UnitRows, seed)).unwrap()
    };
    let (q, k, queue) = (unit(n, 1), unit(n, 2), unit(rows, 3));
    let [teacher_tau, tau] = TAUS;
    let weight = 0.7;

    let (target, log_z) = mean(&cx, &k, &queue, teacher_tau).unwrap();
    let op = InfoNCE { tau, weight, own: false };
    let (loss, saved) = op.forward(&cx, &[&q, &target, &queue]).unwrap();
    let gy = cx.full(loss.shape(), DType::F64, 1.0).unwrap();
    let mut grads = [Grad::wanted(None), Grad::unwanted(), Grad::unwanted()];
    op.backward(&cx, saved, gy, &mut grads).unwrap();
    let [gq, _, _] = grads;
    let gq = gq.into_value().unwrap();

    let teacher = logits(k.host(), queue.host(), d, teacher_tau);
    let student = logits(q.host(), queue.host(), d, tau);
    let mut expected = 0.0;
    for (i, (teacher, student)) in teacher.iter().zip(&student).enumerate() {
        let ((teacher_z, p), (student_z, s)) = (softmax(teacher), softmax(student));
        let shares = p.iter().zip(student);
        expected -= shares.map(|(p, l)| p * (l - student_z)).sum::<f64>() * weight / n as f64;
        for c in 0..d {
            let terms = queue.host::<f64>().chunks(d).zip(p.iter().zip(&s));
            let direction: f64 = terms.map(|(row, (p, s))| (s - p) * row[c]).sum();
            assert_close(gq.host::<f64>()[i * d + c], direction * weight / (tau * n as f64));
        }
        let entropy = -p.iter().map(|p| p * p.max(f64::MIN_POSITIVE).ln()).sum::<f64>();
        let row = |t: &Tensor| t.host::<f64>()[i * d..][..d].to_vec();
        let product: f64 = row(&k).iter().zip(row(&target)).map(|(k, t)| k * t).sum();
        assert_close(log_z.host::<f64>()[i], teacher_z);
        assert_close(log_z.host::<f64>()[i] - product / teacher_tau, entropy);
    }
    assert_close(loss.host::<f64>()[0], expected);
}
