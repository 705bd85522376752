//! Nets for dense tasks: a backbone, which is a space with one point by then, and heads.

mod conv;
mod det_net;
mod fcn;
mod fpn;
mod roi_heads;
mod rpn;
mod seg_net;

pub use det_net::{DetNet, Detector, RATIOS};
pub use fcn::{Dropout, Fcn, Scores};
pub use fpn::LEVELS;
pub use roi_heads::BoxOutput;
pub use rpn::RpnOutput;
pub use seg_net::SegNet;

/// Layers whose outputs are of a data set's classes.
pub const CLASSIFIERS: [&str; 5] = [
    "decode_head.conv_seg",
    "auxiliary_head.conv_seg",
    "box_predictor.cls_score",
    "box_predictor.bbox_pred",
    "mask_head.predictor",
];
