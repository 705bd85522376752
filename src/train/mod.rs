//! Training: [`iteration`] is Algorithm 1; [`mod@run`] repeats it over a data set, in a folder
//! ([`folder`]) that can be killed and resumed ([`checkpoint`]) at any moment.

pub mod checkpoint;
mod diverged;
pub mod dump;
mod examples;
pub mod extend;
pub mod feed;
pub mod folder;
pub mod init;
pub mod iteration;
pub mod plan;
pub mod progress;
pub mod resume;
pub mod run;
pub mod signals;
mod start;

pub use checkpoint::Checkpoint;
pub use feed::{Fed, Feed};
pub use iteration::{Iteration, Report, Step};
pub use plan::{Plan, dry_run};
pub use resume::Resume;
pub use run::{Options, Outcome, run};
