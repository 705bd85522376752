//! Nets for dense tasks: a backbone, which is a space with one point by then, and heads.

mod conv;
mod fcn;
mod seg_net;

/// Layers whose outputs are of a data set's classes.
pub const CLASSIFIERS: [&str; 2] = ["decode_head.conv_seg", "auxiliary_head.conv_seg"];

pub use fcn::{Dropout, Fcn, Scores};
pub use seg_net::SegNet;
