//! A linear classifier on pooled features, apart from the net that computes them.

use super::builder::Builder;
use super::mlp::MlpLayers;
use super::norm::BnMode;
use super::params::{Init, Params};
use crate::cx::Cx;
use crate::error::Result;
use crate::files::{Entry, Named};
use crate::tape::Tape;
use crate::tensor::Tensor;

/// What a classifier is called: torchvision's name.
pub const CLASSIFIER: &str = "fc";

/// Weights and biases of classes, `fc.weight` [C, D] and `fc.bias` `[C]`.
pub struct Classifier {
    layer: MlpLayers,
    params: Params,
}

impl Classifier {
    /// Of `classes` classes on features of `dim` numbers, from named tensors; `origin` names their
    /// file in errors.
    ///
    /// # Errors
    /// [`Kind::Data`](crate::Kind::Data) where a tensor is missing or of another shape.
    pub fn from_torch(
        cx: &Cx,
        dim: usize,
        classes: usize,
        named: &Named,
        origin: &str,
    ) -> Result<Self> {
        let mut builder = Builder::default();
        let layer = builder.linear(CLASSIFIER, dim, classes, Init::Constant(0.0));
        let (specs, _) = builder.finish();
        Ok(Self { layer, params: Params::from_torch(cx, &specs, named, origin)?.ready(cx)? })
    }

    /// Its tensors by name.
    pub fn to_torch(&self, cx: &Cx) -> Result<Vec<Entry>> {
        self.params.to_torch(cx)
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.layer.mlp().dim()
    }

    /// Scores [N, C] of pooled features [N, D].
    pub fn scores(&self, cx: &Cx, pooled: Tensor) -> Result<Vec<f32>> {
        let mut tape = Tape::inference(cx);
        let x = tape.constant(pooled);
        let mut norm = BnMode::Batch { group: 0 };
        let scores = self.layer.forward(&mut tape, &self.params, &x, &mut norm)?;
        cx.download(scores.value())
    }
}
