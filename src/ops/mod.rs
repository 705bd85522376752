//! The ops. Each is a folder: `mod.rs` with parameters, shapes, forward and backward;
//! `cpu.rs` with the native implementation, generic over f32 and f64, which is also the
//! reference; `cases.rs` with the shapes on which all checks and benchmarks of the op run.
//! A kernel for devices is `kernels/<op>.cu`. [`OPS`] lists them, and nothing else does.

pub mod add;
mod any;
pub mod avg_pool;
pub mod batch_norm;
pub mod bce_logits;
mod bias;
pub mod box_loss;
pub mod check;
pub mod concat;
pub mod conv2d;
pub mod conv_transpose2d;
pub mod cosine;
pub mod cross_entropy;
pub mod cut_mix;
pub mod divide;
mod expect;
pub mod flatten;
pub mod gather_rows;
pub mod gemm;
pub(crate) mod gemm_nt;
pub mod global_norm;
mod grad;
pub mod index_select;
pub mod info_nce;
pub mod l2_normalise;
pub mod linear;
pub mod matching;
pub mod max_pool;
pub(crate) mod mean;
mod measured;
pub mod multi_tensor;
mod narrow_copy;
mod op;
pub mod passes;
pub mod proposals;
pub mod queue_mean;
pub mod queue_push;
pub mod relation;
pub mod relu;
pub mod resize_bilinear;
pub mod roi_align;
pub mod rows;
pub mod scale_channels;
pub mod seg_loss;
pub mod subsample;
mod trace;
pub mod upsample_add;
pub mod vector;
pub mod work;

pub use any::AnyOp;
pub use check::{Check, Outcome};
pub use expect::{expect_float, expect_index, expect_inputs, expect_mixed, expect_shape};
pub use grad::{Grad, Wanted, add_to_front};
pub use measured::{Measured, Passes};
pub use op::{Case, Fill, Input, Op, Saved, unshared};
pub use passes::CHUNK;
pub use trace::{Trace, TraceEntry};

use op::{remember_meta, remember_size, remembered_meta, remembered_size};

use crate::tensor::DType;

/// All ops.
pub static OPS: &[Registered] = &[
    registered::<add::Add>(),
    registered::<avg_pool::GlobalAvgPool>(),
    registered::<batch_norm::BatchNorm>(),
    registered::<bce_logits::BceLogits>(),
    registered::<box_loss::BoxLoss>(),
    registered::<concat::Concat>(),
    registered::<conv2d::Conv2d>(),
    registered::<conv_transpose2d::ConvTranspose2d>(),
    registered::<cosine::Cosine>(),
    registered::<cross_entropy::CrossEntropy>(),
    registered::<flatten::Flatten>(),
    registered::<gather_rows::GatherRows>(),
    registered::<info_nce::InfoNCE>(),
    registered::<l2_normalise::L2Normalise>(),
    registered::<linear::Linear>(),
    registered::<max_pool::MaxPool>(),
    registered::<relu::Relu>(),
    registered::<roi_align::RoiAlign>(),
    registered::<rows::Rows>(),
    registered::<scale_channels::ScaleChannels>(),
    registered::<seg_loss::SegLoss>(),
    registered::<subsample::Subsample>(),
    registered::<upsample_add::UpsampleAdd>(),
];

/// What is known of an op without its type.
pub struct Registered {
    /// [`Op::NAME`].
    pub name: &'static str,
    /// The checks of its cases, as (name, check).
    pub checks: fn() -> Vec<(String, Check)>,
    /// The passes of its [`Measured::benches`], with values kept in a type.
    pub benches: fn(DType) -> Vec<work::BenchCase>,
}

const fn registered<O: Op>() -> Registered {
    Registered {
        name: O::NAME,
        checks: check::of_cases::<O>,
        benches: |dtype| O::benches().into_iter().flat_map(|c| work::of_case(c, dtype)).collect(),
    }
}

/// All checks of all ops, as (name, check).
pub fn checks() -> Vec<(String, Check)> {
    OPS.iter().flat_map(|op| (op.checks)()).collect()
}
