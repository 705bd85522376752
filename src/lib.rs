//! Trains one elastic ResNet supernet on unlabelled images by self-supervised learning,
//! finds, still without labels, the subnet that fits a domain, a task and a budget, and
//! exports it with proof that it is the same net: the DATA method (CVPR 2022).
//!
//! Read in this order: [`space`] → [`nn`] → [`ssl`] → [`train`] → [`search`] → [`export`],
//! which stand on [`tape`] → [`ops`] → [`cx`] → [`tensor`] → [`device`]. `docs/architecture.md` draws the map.

#![cfg_attr(not(test), warn(unused_crate_dependencies))]

pub mod bench;
pub mod choice;
pub mod cli;
pub mod config;
pub mod cx;
pub mod data;
pub mod device;
pub mod error;
pub mod eval;
pub mod export;
pub mod files;
pub mod finetune;
pub mod geometry;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod outside;
pub mod program;
pub mod progress;
pub mod registry;
pub mod report;
pub mod rng;
pub mod search;
pub mod signals;
pub mod space;
pub mod ssl;
pub mod study;
pub mod tape;
pub mod tensor;
pub mod train;
pub mod version;

// Only the binaries use it.
use git_version as _;

pub use error::{Error, Kind, Result};
