//! Fine-tuning with labels: a net that was trained without them learns a task, as one more
//! [`Objective`](crate::train::Objective) of [`train`](crate::train). [`cls`]: classes of images;
//! [`seg`]: classes of pixels.

pub mod cls;
pub mod rates;

crate::choice! {
    /// What a net is fine-tuned for.
    pub enum Task("task") {
        /// Classes of images.
        Cls = "cls",
        /// Classes of pixels.
        Seg = "seg",
    }
}
