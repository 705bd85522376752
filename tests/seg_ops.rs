//! The ops of segmentation against PyTorch: `fixtures/seg_ops.py` made the file that is read here.

use engine::Error;
use engine::cx::Cx;
use engine::ops::resize_bilinear::resize_bilinear;
use engine::ops::seg_loss::SegLoss;
use engine::ops::{Grad, Op};
use engine::tensor::{DType, Shape, Tensor};
use safetensors::SafeTensors;

static FIXTURES: &[u8] = include_bytes!("fixtures/seg_ops.safetensors");

/// The cases, each with and without aligned corners; the file has no resized maps of the last.
const CASES: [&str; 5] = ["larger", "same", "smaller", "pixel", "eighth"];

/// Most that results in f32 may differ: ‖difference‖ / ‖expected‖.
const ALLOWED: f64 = 1e-5;

/// One case of the file.
struct Fixture {
    cx: Cx,
    case: String,
    align_corners: bool,
}

impl Fixture {
    fn of(cases: &[&str]) -> Vec<Self> {
        let fixture = |case: &str, align_corners| {
            let aligned = if align_corners { "_aligned" } else { "" };
            Self { cx: Cx::for_tests(), case: format!("{case}{aligned}"), align_corners }
        };
        cases.iter().flat_map(|case| [false, true].map(|aligned| fixture(case, aligned))).collect()
    }

    fn values(&self, name: &str) -> (Shape, Vec<f32>) {
        let file = SafeTensors::deserialize(FIXTURES).expect("the fixture is a safetensors file");
        let view = file.tensor(&format!("{}.{name}", self.case)).expect("it is in the file");
        let [n, h, w, c] = *view.shape() else { panic!("{name} has shape {:?}", view.shape()) };
        let value = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        (Shape::nhwc(n, h, w, c), view.data().chunks_exact(4).map(value).collect())
    }

    fn tensor(&self, name: &str) -> Result<Tensor, Error> {
        let (shape, values) = self.values(name);
        self.cx.upload(shape, DType::F32, &values)
    }

    fn compare(&self, name: &str, found: &Tensor) {
        let (shape, expected) = self.values(name);
        assert_eq!(found.shape(), shape, "{}.{name}", self.case);
        let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
        let size = expected.iter().map(|x| x * x).sum::<f64>().sqrt();
        let pairs = found.to_f64().into_iter().zip(expected);
        let relative = pairs.map(|(f, e)| (f - e) * (f - e)).sum::<f64>().sqrt() / size;
        assert!(relative <= ALLOWED, "{}.{name}: off by {relative:e}", self.case);
    }
}

#[test]
fn losses_of_resized_logits() -> Result<(), Error> {
    for fixture in Fixture::of(&CASES) {
        let cx = &fixture.cx;
        let logits = fixture.tensor("logits")?;
        let (shape, labels) = fixture.values("labels");
        let labels: Vec<i32> = labels.into_iter().map(|label| label as i32).collect();
        assert!(labels.contains(&-1), "{} has pixels that are ignored", fixture.case);
        let labels = cx.upload_i32(shape, &labels)?;
        let op = SegLoss { align_corners: fixture.align_corners, weight: 1.0 };
        let (loss, saved) = op.forward(cx, &[&logits, &labels])?;
        fixture.compare("loss", &loss);
        let mut grads = [Grad::wanted(None), Grad::unwanted()];
        op.backward(cx, saved, cx.full(loss.shape(), DType::F32, 1.0)?, &mut grads)?;
        let [grad, _] = grads;
        fixture.compare("glogits", &grad.into_value().expect("it was wanted"));
    }
    Ok(())
}

#[test]
fn resized_maps() -> Result<(), Error> {
    for fixture in Fixture::of(&CASES[..4]) {
        let (shape, _) = fixture.values("resized");
        let logits = fixture.tensor("logits")?;
        let found =
            resize_bilinear(&fixture.cx, &logits, shape.h(), shape.w(), fixture.align_corners)?;
        fixture.compare("resized", &found);
    }
    Ok(())
}
