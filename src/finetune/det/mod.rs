//! Detection by Faster R-CNN on C4 and by Mask R-CNN with a feature pyramid: data, objective, test.

mod batches;
mod dump;
mod grid;
mod losses;
mod model;
mod objective;
pub mod recall;
mod regions;
mod set;
mod test;

pub use model::{DetModel, Shown};
pub use objective::Detect;
pub use set::DetSet;
pub use test::{RESULTS, Scored, details, test};

use crate::config::{BoxHead, Config, Task, TunedBn};
use crate::error::Result;
use crate::finetune::tuned_net::TunedNet;
use crate::nn::dense::{DetNet, Detector};
use crate::space::Space;

/// The tasks whose nets find objects.
pub const TASKS: [Task; 2] = [Task::DetC4, Task::DetFpn];

/// The layers that settings ask for.
///
/// # Errors
/// [`crate::Kind::Usage`] for a space that the task does not fit.
pub fn net(tuned: &TunedNet) -> Result<DetNet> {
    let detector = detector(&tuned.config, tuned.task, tuned.classes.len());
    DetNet::new(&tuned.space()?, detector)
}

/// The sizes that settings ask for.
fn detector(config: &Config, task: Task, classes: usize) -> Detector {
    let (det, fpn) = (&config.det, task == Task::DetFpn);
    Detector {
        classes,
        fpn,
        channels: det.channels,
        box_head: match det.box_head {
            BoxHead::TwoFc => [0, 2, det.fc],
            BoxHead::FourConvOneFc => [4, 1, det.fc],
        },
        // A frozen backbone is for small batches, which have no statistics to go by.
        norm: config.finetune.bn == TunedBn::Batch,
        head_norm: det.head_norm,
        mask: det.mask && fpn,
        anchor: det.anchor,
    }
}

/// Opens images to learn from or to test on, for a net of a space.
///
/// # Errors
/// [`crate::Kind::Usage`] for a space that the task does not fit, [`crate::Kind::Data`] for images and
/// annotations.
pub fn open(
    source: &str,
    images: Option<&str>,
    config: &Config,
    task: Task,
    space: &Space,
) -> Result<DetSet> {
    let net = DetNet::new(space, detector(config, task, 1))?;
    DetSet::open(source, images, grid::Grid::of(&net))
}
