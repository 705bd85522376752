//! The elastic ResNet: one set of weights at maximum size, of which every architecture of the
//! space uses the first channels and the first blocks.

pub mod head;
pub mod norm;
pub mod params;
pub mod recalibrate;
pub mod resnet;

pub use head::MlpHead;
pub use norm::{Collector, Norm, RunningStats};
pub use params::{Gradients, ParamSpec, Params, Role};
pub use recalibrate::{Subnet, recalibrate};
pub use resnet::{Feature, Outputs, Supernet};
