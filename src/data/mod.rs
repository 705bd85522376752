//! Images: where they lie ([`Dataset`]), how they are decoded ([`Image`]), what is done to
//! them ([`Views`], [`ViewParams`]) and how they reach the nets ([`TrainLoader`],
//! [`eval_batches`]).
//!
//! Everything a net sees is a function of the data set, the settings and the seed: threads
//! only decide when an image is made, never what it looks like.

pub mod annotated;
mod archive;
pub mod augment;
mod bands;
mod blur;
mod cifar;
mod codec;
mod dataset;
mod digest;
mod eval;
mod folder;
mod guard;
mod idx;
mod image;
mod index;
mod input;
mod labels;
mod likeness;
mod limits;
mod list;
mod loaded;
mod loader;
pub mod pack;
mod packed;
mod parquet;
pub mod partition;
mod pipeline;
mod pixels;
mod planes;
mod policy;
mod ranges;
mod resample;
mod said;
mod scan;
mod source;
pub mod survey;
pub mod synthetic;
mod table;
mod thumbnail;
mod unsupported;
mod views;

pub use self::augment::{RgbImages, Scratch, ViewFormat, checks as augment_checks, render};
pub use self::bands::{AnyImage, Bands};
pub use self::dataset::Dataset;
pub use self::eval::{EvalBatch, EvalBatches, eval_batches, eval_batches_with};
pub use self::guard::decodes;
pub use self::image::{Admit, Format, Image};
pub use self::input::{Input, decimals};
pub use self::likeness::{CROPS, Likeness};
pub use self::limits::Limits;
pub(crate) use self::loader::Orders;
pub use self::loader::{
    Batch, Decoded, Deliver, Images, LoaderOptions, Targets, TrainLoader, steps_per_epoch,
};
pub(crate) use self::pipeline::{Pipeline, Stop};
pub use self::pixels::{Bytes, IMAGENET_MEAN, IMAGENET_STD, Normalise, Pixels, Recycled};
pub use self::policy::{CorruptPolicy, OnCorrupt, allowed_corrupt};
pub use self::resample::{Crop, Filter};
pub use self::thumbnail::{photo, png_address, thumbnail};
pub use self::views::{Adjust, ViewParams, Views};

/// Compiles a function a second time for AVX2 and takes that version where the machine has it.
/// Both do the same arithmetic in the same order, so they give the same bits. As
/// [`vectorise`](crate::ops::passes::vectorise), but the compiler knows that arguments do not
/// overlap, which it does not of a closure's captures: views are made a seventh faster.
macro_rules! vectorised {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) {
            #[inline(always)]
            fn body($($arg: $ty),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn wide($($arg: $ty),*) {
                    body($($arg),*)
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the machine has AVX2.
                    return unsafe { wide($($arg),*) };
                }
            }
            body($($arg),*)
        }
    };
}
pub(crate) use vectorised;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
