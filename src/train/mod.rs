//! Training: an [`objective`] learns step by step; [`mod@run`] drives it over a data set, in a folder
//! ([`folder`]) that can be killed and resumed ([`checkpoint`]) at any moment. [`pretrain`] is the
//! objective of Algorithm 1.

mod advice;
pub mod batches;
mod between;
pub mod checkpoint;
mod diverged;
mod dry_run;
pub mod dump;
mod events;
pub(crate) mod examples;
pub mod extend;
pub mod finished;
pub mod folder;
mod guard;
pub mod health;
pub mod init;
pub mod interim;
pub mod job;
mod monitors;
pub mod objective;
pub mod options;
pub mod plan;
pub mod pretrain;
pub(crate) mod probe;
pub mod resume;
pub mod run;
mod signs;
pub mod source;
mod start;

pub use advice::advice;
pub use batches::{Batches, Feed};
pub use checkpoint::Checkpoint;
pub use dry_run::{FASTEST_GPU, Plan, dry_run};
pub use finished::Finished;
pub use folder::{RUN, RUN_FILES};
pub use health::Health;
pub use job::{Course, Job, Tuned, Tuning};
pub use objective::{Make, Objective, Report, Setup};
pub use options::{Options, Outcome};
pub use pretrain::{Pretrain, Step};
pub use probe::ProbeOn;
pub use resume::Resume;
pub use run::{run, run_job, run_objective};
pub use source::{Annotated, Source};
pub use start::{begin_tuning, seen, unseen};
