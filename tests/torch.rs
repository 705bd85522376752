//! The ops against what PyTorch computes: `fixtures/*.py` made the files that are read here.

use engine::Error;
use engine::cx::Cx;
use engine::ops::avg_pool::GlobalAvgPool;
use engine::ops::batch_norm::{self, BatchNorm};
use engine::ops::bce_logits::BceLogits;
use engine::ops::box_loss::BoxLoss;
use engine::ops::conv_transpose2d::ConvTranspose2d;
use engine::ops::cosine::Cosine;
use engine::ops::cross_entropy::{self, CrossEntropy};
use engine::ops::gather_rows::GatherRows;
use engine::ops::info_nce::InfoNCE;
use engine::ops::l2_normalise::L2Normalise;
use engine::ops::max_pool::MaxPool;
use engine::ops::roi_align::RoiAlign;
use engine::ops::subsample::Subsample;
use engine::ops::upsample_add::UpsampleAdd;
use engine::ops::{Grad, Op, matching, queue_mean, relation};
use engine::tensor::{DType, Meta, Shape, Tensor};
use safetensors::SafeTensors;

static OPS: &[u8] = include_bytes!("fixtures/ops.safetensors");
static DENSE_OPS: &[u8] = include_bytes!("fixtures/dense_ops.safetensors");

/// One case of a fixture file.
struct Fixture<'a> {
    cx: Cx,
    file: SafeTensors<'a>,
    case: &'static str,
}

impl Fixture<'_> {
    fn new(case: &'static str) -> Self {
        Self::of(OPS, case)
    }

    fn of(file: &'static [u8], case: &'static str) -> Self {
        let file = SafeTensors::deserialize(file).expect("the fixture is a safetensors file");
        Self { cx: Cx::for_tests(), file, case }
    }

    /// A column of integers.
    fn index(&self, name: &str) -> Tensor {
        let values: Vec<i32> = self.tensor(name).to_f64().iter().map(|x| *x as i32).collect();
        self.cx.upload_i32(Shape::matrix(values.len(), 1), &values).expect("memory for it")
    }

    /// A tensor of the case; vectors become 1×1×1×C, matrices N×1×1×C.
    fn tensor(&self, name: &str) -> Tensor {
        let view = self.file.tensor(&format!("{}.{name}", self.case)).expect("it is in the file");
        let shape = match *view.shape() {
            [c] => Shape::vector(c),
            [n, c] => Shape::matrix(n, c),
            [n, h, w, c] => Shape::nhwc(n, h, w, c),
            _ => panic!("{name} has shape {:?}", view.shape()),
        };
        let bytes = view.data().chunks_exact(4);
        let values: Vec<f32> =
            bytes.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        self.cx.upload(shape, DType::F32, &values).expect("memory for it")
    }

    fn compare(&self, name: &str, found: &Tensor) {
        let expected = self.tensor(name);
        assert_eq!(found.shape().elems(), expected.shape().elems(), "{}.{name}", self.case);
        let (found, expected) = (found.to_f64(), expected.to_f64());
        let size = expected.iter().map(|x| x * x).sum::<f64>().sqrt();
        let difference = found.iter().zip(&expected).map(|(f, e)| (f - e) * (f - e)).sum::<f64>();
        // A gradient may be 0 throughout.
        let relative = if difference == 0.0 { 0.0 } else { difference.sqrt() / size };
        assert!(relative <= 2e-6, "{}.{name}: off by {relative:e}", self.case);
    }

    /// Output, and gradients `g<name>` of those inputs that the file has one of.
    fn check<O: Op>(&self, op: O, names: &[&str]) -> Result<(), Error> {
        self.check_on(op, names, names.iter().map(|n| self.tensor(n)).collect())
    }

    /// As [`Fixture::check`], on inputs that the file does not hold as they are.
    fn check_on<O: Op>(&self, op: O, names: &[&str], inputs: Vec<Tensor>) -> Result<(), Error> {
        let metas: Vec<Meta> = inputs.iter().map(Tensor::meta).collect();
        let announced = op.infer(&metas)?;
        let (y, saved) = op.forward(&self.cx, &inputs.iter().collect::<Vec<_>>())?;
        assert_eq!(y.meta(), announced);
        self.compare("y", &y);
        let gy = self.cx.upload(y.shape(), DType::F32, &self.cx.download(&self.tensor("gy"))?)?;
        let known = |n: &&str| self.file.tensor(&format!("{}.g{n}", self.case)).is_ok();
        let slot = |n| if known(n) { Grad::wanted(None) } else { Grad::unwanted() };
        let mut grads: Vec<Grad> = names.iter().map(slot).collect();
        op.backward(&self.cx, saved, gy, &mut grads)?;
        let mut compared = 0;
        for (name, grad) in names.iter().zip(grads) {
            if let Some(grad) = grad.into_value() {
                self.compare(&format!("g{name}"), &grad);
                compared += 1;
            }
        }
        assert!(compared > 0, "{} compares gradients", self.case);
        Ok(())
    }
}

#[test]
fn batch_norm_in_groups() -> Result<(), Error> {
    let op = BatchNorm::batch(2).add().relu();
    Fixture::new("bn_groups").check(op, &["x", "gamma", "beta", "residual"])
}

#[test]
fn batch_norm_with_given_statistics() -> Result<(), Error> {
    let op = BatchNorm::given().relu();
    let fixture = Fixture::new("bn_given");
    let [x, gamma, beta, mean, var] =
        ["x", "gamma", "beta", "mean", "var"].map(|name| fixture.tensor(name));
    let given = batch_norm::given_statistics(&fixture.cx, &mean, &var)?;
    fixture.check_on(op, &["x", "gamma", "beta", "given"], vec![x, gamma, beta, given])
}

#[test]
fn batch_norm_statistics() -> Result<(), Error> {
    let fixture = Fixture::new("bn_statistics");
    let (cx, x) = (&fixture.cx, fixture.tensor("x"));
    let mut running = batch_norm::Running::new(cx, x.meta())?;
    running.add(cx, &x)?;
    let (mean, var) = running.averages(cx)?;
    fixture.compare("mean", &mean);
    fixture.compare("var", &var);
    Ok(())
}

#[test]
fn pools() -> Result<(), Error> {
    Fixture::new("max_pool_even").check(MaxPool, &["x"])?;
    Fixture::new("max_pool_odd").check(MaxPool, &["x"])?;
    Fixture::new("avg_pool").check(GlobalAvgPool, &["x"])
}

#[test]
fn losses() -> Result<(), Error> {
    Fixture::new("l2_normalise").check(L2Normalise, &["x"])?;
    let op = InfoNCE { tau: 0.2, weight: 1.0, own: true };
    Fixture::new("info_nce").check(op, &["q", "k", "queue"])?;
    let op = InfoNCE { own: false, ..op };
    Fixture::new("info_nce_target").check(op, &["q", "target", "queue"])?;
    Fixture::new("cosine").check(Cosine { weight: 1.0 }, &["p", "k"])
}

/// The cross-entropy of two softmaxes, which neither keeps.
#[test]
fn ressl() -> Result<(), Error> {
    let fixture = Fixture::new("ressl");
    let [q, k, queue] = ["q", "k", "queue"].map(|name| fixture.tensor(name));
    let (mean, log_z) = queue_mean::mean(&fixture.cx, &k, &queue, 0.04)?;
    fixture.compare("mean", &mean);
    fixture.compare("log_z", &log_z);
    let op = InfoNCE { tau: 0.1, weight: 1.0, own: false };
    fixture.check_on(op, &["q", "target", "queue"], vec![q, mean, queue])
}

#[test]
fn cross_entropy_of_labels() -> Result<(), Error> {
    let fixture = Fixture::new("cross_entropy");
    let logits = fixture.tensor("logits");
    let labels: Vec<usize> =
        fixture.tensor("labels").to_f64().into_iter().map(|label| label as usize).collect();
    let labels = cross_entropy::labels(&fixture.cx, &labels, logits.shape().c())?;
    let (loss, saved) = CrossEntropy { weight: 1.0 }.forward(&fixture.cx, &[&logits, &labels])?;
    fixture.compare("y", &loss);
    let mut grads = [Grad::wanted(None), Grad::unwanted()];
    CrossEntropy { weight: 1.0 }.backward(&fixture.cx, saved, fixture.tensor("gy"), &mut grads)?;
    let [grad, _] = grads;
    fixture.compare("glogits", &grad.into_value().expect("it was wanted"));
    Ok(())
}

#[test]
fn roi_align() -> Result<(), Error> {
    let op = RoiAlign { size: 7, scales: vec![0.25, 0.125] };
    Fixture::of(DENSE_OPS, "roi_align").check(op, &["f0", "f1", "rois"])?;
    let op = RoiAlign { size: 2, scales: vec![0.25, 0.125, 0.0625] };
    Fixture::of(DENSE_OPS, "roi_align_unused").check(op, &["f0", "f1", "f2", "rois"])
}

#[test]
fn transposed_convolution() -> Result<(), Error> {
    let op = ConvTranspose2d { cout: 5, kernel: 2, stride: 2 };
    Fixture::of(DENSE_OPS, "deconv").check(op, &["x", "w", "b"])?;
    let op = ConvTranspose2d { cout: 8, kernel: 3, stride: 2 };
    Fixture::of(DENSE_OPS, "deconv_3").check(op, &["x", "w", "b"])
}

#[test]
fn losses_of_detection() -> Result<(), Error> {
    let op = BceLogits { weight: 1.0 / 40.0 };
    Fixture::of(DENSE_OPS, "bce").check(op, &["logits", "targets"])?;
    let fixture = Fixture::of(DENSE_OPS, "bce_select");
    let inputs = |x: &str, f: &Fixture| vec![f.tensor(x), f.tensor("targets"), f.index("select")];
    let op = BceLogits { weight: 1.0 / 294.0 };
    let names = ["logits", "targets", "select"];
    fixture.check_on(op, &names, inputs("logits", &fixture))?;
    for (case, beta) in [("box_l1", 0.0), ("box_smooth", 0.7)] {
        let fixture = Fixture::of(DENSE_OPS, case);
        let op = BoxLoss { beta, weight: 1.0 / 12.0 };
        fixture.check_on(op, &["pred", "targets", "select"], inputs("pred", &fixture))?;
    }
    Ok(())
}

#[test]
fn pyramids() -> Result<(), Error> {
    Fixture::of(DENSE_OPS, "upsample_add").check(UpsampleAdd, &["a", "b"])?;
    Fixture::of(DENSE_OPS, "subsample").check(Subsample, &["x"])?;
    let fixture = Fixture::of(DENSE_OPS, "gather_rows");
    let inputs = vec![fixture.tensor("f0"), fixture.tensor("f1"), fixture.index("index")];
    fixture.check_on(GatherRows { width: 4 }, &["f0", "f1", "index"], inputs)
}

#[test]
fn relation_scores() -> Result<(), Error> {
    let fixture = Fixture::new("relation");
    let teacher = relation::Teacher::new(&fixture.cx, &fixture.tensor("teacher"), 0.2)?;
    let scores = teacher.score(&fixture.cx, &fixture.tensor("student"))?;
    let scores: Vec<f32> = scores.into_iter().map(|s| s as f32).collect();
    let shape = Shape::vector(scores.len());
    fixture.compare("score", &fixture.cx.upload(shape, DType::F32, &scores)?);
    Ok(())
}

#[test]
fn matching_positions() -> Result<(), Error> {
    let fixture = Fixture::new("matching");
    let [student, teacher] = ["student", "teacher"].map(|name| fixture.tensor(name));
    let index = matching::nearest(&fixture.cx, &student, &teacher)?;
    assert_eq!(index.to_f64(), fixture.tensor("index").to_f64());
    Ok(())
}
