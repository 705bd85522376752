//! Linear probe: softmax regression on frozen features. The learning rate is chosen on a part
//! of the training images; the test images are looked at once, at the end.

use serde::{Deserialize, Serialize};

use super::classes::Answers;
use super::features::Labelled;
use crate::cx::Cx;
use crate::error::{Error, Result};
use crate::nn::{Gradients, Init, ParamSpec, Params, Role};
use crate::ops::cross_entropy::{self, CrossEntropy};
use crate::ops::linear::Linear;
use crate::optim::{Exempt, Optimizer, Schedule, Sgd};
use crate::rng::{Philox, Purpose};
use crate::tape::Tape;
use crate::tensor::{DType, Shape, Tensor};

/// Learning rates that are tried. Features are standardised, so they need no other scale.
pub const LEARNING_RATES: [f64; 5] = [1.0, 0.3, 0.1, 0.03, 0.01];
const BATCH: usize = 256;
/// Rows that are classified at a time.
const MOST_ROWS: usize = 4096;
const SGD: Sgd =
    Sgd { momentum: 0.9, weight_decay: 0.0, exempt: Exempt::NormsAndBiases, trust: None };

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// The learning rate that did best on the held-out tenth of the training images.
    pub lr: f64,
    /// Accuracy on that tenth with each of [`LEARNING_RATES`].
    pub held_out: Vec<f64>,
    /// Accuracy on the test images, trained at `lr` on all training images.
    pub test: f64,
    /// Share of the test images with their class among the first five answers.
    pub test_top5: f64,
    /// Accuracy on the training images of the same classifier.
    pub train: f64,
}

/// Trains and tests a linear classifier; SGD with momentum 0.9, batches of 256, cosine
/// schedule over `epochs`, no weight decay. Also gives the answers to the test images. Standardises
/// the features in place: of a large set they fill much of the memory.
///
/// # Errors
/// [`crate::Kind::Data`] for fewer than ten training images or no test image.
pub fn probe(
    cx: &Cx,
    train: &mut Labelled,
    test: &mut Labelled,
    classes: usize,
    epochs: usize,
    seed: u64,
) -> Result<(Probe, Answers)> {
    if train.len() < 10 || test.is_empty() {
        return Err(Error::data(format!(
            "a linear probe needs at least 10 training images and 1 test image, found {} and {}",
            train.len(),
            test.len()
        )));
    }
    standardise(train, test)?;
    let order = Philox::new(seed, Purpose::Probe, 0, 0).sample(train.len(), train.len());
    let (held_out, rest) = order.split_at(train.len() / 10);
    let [all, tests] = [train.len(), test.len()].map(|n| (0..n).collect::<Vec<_>>());
    let mut tried = Vec::new();
    for lr in LEARNING_RATES {
        let fitted = fit(cx, train, rest, classes, epochs, lr, seed)?;
        tried.push(answers(cx, &fitted, train, held_out, classes)?.top1());
    }
    // The first of equals: the larger rate.
    let best = (0..tried.len()).rev().max_by(|&a, &b| tried[a].total_cmp(&tried[b])).unwrap_or(0);
    let fitted = fit(cx, train, &all, classes, epochs, LEARNING_RATES[best], seed)?;
    let found = answers(cx, &fitted, test, &tests, classes)?;
    let probe = Probe {
        lr: LEARNING_RATES[best],
        held_out: tried,
        test: found.top1(),
        test_top5: found.top5(),
        train: answers(cx, &fitted, train, &all, classes)?.top1(),
    };
    Ok((probe, found))
}

/// Shifts and scales every feature to mean 0 and variance 1 over the training images.
fn standardise(train: &mut Labelled, test: &mut Labelled) -> Result<()> {
    let (dim, n) = (train.dim, train.len() as f64);
    let mut sums = vec![(0.0f64, 0.0f64); dim];
    for piece in train.values.pieces(dim * MOST_ROWS) {
        for row in piece?.chunks_exact(dim) {
            for (sum, &x) in sums.iter_mut().zip(row) {
                sum.0 += f64::from(x);
                sum.1 += f64::from(x) * f64::from(x);
            }
        }
    }
    let scales: Vec<(f32, f32)> = sums
        .iter()
        .map(|(s, q)| {
            let (mean, var) = (s / n, q / n - (s / n).powi(2));
            // A constant feature says nothing: it becomes 0.
            let scale = if var > 1e-12 * (q / n) { var.sqrt().recip() } else { 0.0 };
            (mean as f32, scale as f32)
        })
        .collect();
    let standard = |row: &mut [f32]| {
        row.iter_mut().zip(&scales).for_each(|(x, (mean, scale))| *x = (*x - mean) * scale);
    };
    train.values.update(dim, standard)?;
    test.values.update(dim, standard)
}

/// Weight [classes, dim] and bias after training on the rows `chosen` of `data`.
fn fit(
    cx: &Cx,
    data: &Labelled,
    chosen: &[usize],
    classes: usize,
    epochs: usize,
    lr: f64,
    seed: u64,
) -> Result<Params> {
    let spec = |name: &str, shape, role, init| ParamSpec { name: name.into(), shape, role, init };
    let specs = [
        spec("weight", Shape([classes, 1, 1, data.dim]), Role::Linear, Init::HeFanIn),
        spec("bias", Shape::vector(classes), Role::Bias, Init::Constant(0.0)),
    ];
    let mut params = Params::init(cx, &specs, seed)?;
    let mut grads = Gradients::zeros(cx, &specs)?;
    let mut optimizer = Optimizer::new(cx, SGD, &specs)?;
    let schedule = Schedule::cosine(lr, 0);
    // What does not fill a batch is left out; the order is another one every epoch.
    let size = BATCH.min(chosen.len());
    let steps_per_epoch = chosen.len() / size;
    let steps = (epochs * steps_per_epoch) as u64;
    let mut step = 0;
    for epoch in 0..epochs {
        let mut rng = Philox::new(seed, Purpose::Probe, epoch as u64 + 1, 0);
        let order = rng.sample(chosen.len(), chosen.len());
        for batch in order.chunks_exact(size) {
            let rows: Vec<usize> = batch.iter().map(|&i| chosen[i]).collect();
            gradients(cx, &params, data, &rows, classes, &mut grads)?;
            optimizer.update(cx, &mut params, &mut grads, schedule.at(step, steps))?;
            step += 1;
        }
    }
    Ok(params)
}

/// Adds the gradients of the mean cross-entropy over some rows.
fn gradients(
    cx: &Cx,
    params: &Params,
    data: &Labelled,
    rows: &[usize],
    classes: usize,
    grads: &mut Gradients,
) -> Result<()> {
    let mut tape = Tape::recording(cx);
    let (x, labels) = upload(cx, data, rows)?;
    let x = tape.constant(x);
    let labels = tape.constant(cross_entropy::labels(cx, &labels, classes)?);
    let [w, b] = [0, 1].map(|i| tape.param(params.values()[i].clone(), i));
    let logits = tape.apply(Linear::new(classes), &[&x, &w, &b])?;
    let loss = tape.apply(CrossEntropy { weight: 1.0 }, &[&logits, &labels])?;
    let one = cx.full(loss.value().shape(), DType::F32, 1.0)?;
    tape.backward(loss, one, grads.slots())
}

/// Some rows, and their classes.
fn upload(cx: &Cx, data: &Labelled, rows: &[usize]) -> Result<(Tensor, Vec<usize>)> {
    let (values, labels) = data.rows(rows)?;
    Ok((cx.upload(Shape::matrix(rows.len(), data.dim), DType::F32, &values)?, labels))
}

/// What is answered for the rows `chosen` of `data`.
fn answers(
    cx: &Cx,
    params: &Params,
    data: &Labelled,
    chosen: &[usize],
    classes: usize,
) -> Result<Answers> {
    let mut all = Answers::default();
    // A part at a time, so that no copy of all features is made.
    for rows in chosen.chunks(MOST_ROWS) {
        let mut tape = Tape::inference(cx);
        let (x, labels) = upload(cx, data, rows)?;
        let x = tape.constant(x);
        let [w, b] = [0, 1].map(|i| tape.param(params.values()[i].clone(), i));
        let logits = tape.apply(Linear::new(classes), &[&x, &w, &b])?;
        let logits = cx.download(logits.value())?;
        let rows = logits.chunks_exact(classes).zip(labels);
        rows.for_each(|(scores, label)| all.add(scores, label));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Classes that a plane separates, except for a share of wrong labels; one feature is
    /// constant and the scales differ wildly.
    fn separable(n: usize, stream: u64) -> Labelled {
        let mut rng = Philox::new(9, Purpose::Check, stream, 0);
        let (mut values, mut labels) = (Vec::new(), Vec::new());
        for _ in 0..n {
            let label = rng.below(3);
            let angle = label as f32 * std::f32::consts::TAU / 3.0;
            values.push(1000.0 * (angle.cos() + 0.2 * rng.normal()));
            values.push(0.01 * (angle.sin() + 0.2 * rng.normal()));
            values.push(7.0);
            labels.push(label);
        }
        Labelled::new(3, values, labels)
    }

    #[test]
    fn separable_classes_are_learnt() {
        let cx = Cx::for_tests();
        let run = || probe(&cx, &mut separable(600, 0), &mut separable(300, 1), 3, 20, 1).unwrap();
        let found = run();
        assert!(
            found.0.test > 0.97 && found.0.test_top5 == 1.0 && found.1.first.len() == 300,
            "{found:?}"
        );
        assert_eq!(found, run());
    }

    #[test]
    fn noise_is_not() {
        let cx = Cx::for_tests();
        let mut train = separable(600, 0);
        let mut rng = Philox::new(9, Purpose::Check, 7, 0);
        train.labels.iter_mut().for_each(|l| *l = rng.below(3));
        let (found, _) = probe(&cx, &mut train, &mut separable(600, 1), 3, 5, 1).unwrap();
        assert!((0.0..0.75).contains(&found.test), "{found:?}");
        let mean = found.held_out.iter().sum::<f64>() / found.held_out.len() as f64;
        assert!((0.15..0.5).contains(&mean), "{found:?}");
    }

    #[test]
    fn too_little_is_refused() {
        let cx = Cx::for_tests();
        let err = probe(&cx, &mut separable(9, 0), &mut separable(9, 1), 3, 1, 1).unwrap_err();
        assert_eq!(err.kind(), crate::Kind::Data);
    }
}
