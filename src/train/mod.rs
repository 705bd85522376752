//! Training: [`iteration`] is Algorithm 1; [`mod@run`] repeats it over a data set, in a folder
//! ([`folder`]) that can be killed and resumed ([`checkpoint`]) at any moment.

mod advice;
pub mod checkpoint;
mod diverged;
pub mod dump;
pub(crate) mod examples;
pub mod extend;
pub mod feed;
pub mod folder;
mod guard;
pub mod health;
pub mod init;
pub mod iteration;
pub mod plan;
pub(crate) mod probe;
pub mod resume;
pub mod run;
mod start;

pub use advice::advice;
pub use checkpoint::Checkpoint;
pub use feed::{Fed, Feed};
pub use folder::{RUN, RUN_FILES};
pub use health::Health;
pub use iteration::{Iteration, Report, Step};
pub use plan::{Plan, dry_run};
pub use probe::ProbeOn;
pub use resume::Resume;
pub use run::{Options, Outcome, run};
