//! Fine-tuning with labels: a net that was trained without them learns a task, as one more
//! [`Objective`](crate::train::Objective) of [`train`](crate::train). [`cls`]: classes of images;
//! [`seg`]: classes of pixels; [`det`]: objects. [`dense`] drives the tasks whose images are annotated, [`tested`] tests them.

pub mod cls;
pub mod dense;
pub mod det;
pub mod details;
pub mod export;
mod feed;
mod learner;
pub(crate) mod overlay;
pub mod rates;
pub mod seg;
pub mod tested;
pub mod tuned_net;
