//! The elastic ResNet: one set of weights at maximum size, of which every architecture of the
//! space uses the first channels and the first blocks.

pub mod block;
mod builder;
pub mod classifier;
pub mod dense;
pub mod mlp;
pub mod norm;
pub mod params;
pub mod recalibrate;
pub mod resnet;

pub use builder::Builder;
pub use classifier::{CLASSIFIER, Classifier};
pub use mlp::{Bn, Layer, Mlp, MlpLayers};
pub use norm::{BnMode, Collector, RunningStats};
pub use params::{Gradients, Init, ParamSpec, Params, Role};
pub use recalibrate::{Subnet, recalibrate};
pub use resnet::{DenseHead, Feature, Heads, Outputs, Supernet, Trunk};
