//! Tests that need Python's libraries: without them they are ignored, with the reason, unless they are
//! required, as in CI.

use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::{Arguments, Failed, Trial};

/// A test with its name.
pub(crate) type Test = (&'static str, fn() -> Result<(), Failed>);

/// A script that installs what tests need, and the environment variable that requires it.
pub(crate) struct Needs {
    /// The folder of this checkout that it installs into.
    pub(crate) folder: &'static str,
    pub(crate) script: &'static str,
    pub(crate) variable: &'static str,
}

impl Needs {
    /// Runs tests, all ignored where what they need is not there.
    pub(crate) fn run(&self, is_there: bool, tests: &[Test]) -> ! {
        libtest_mimic::run(&Arguments::from_args(), self.trials(is_there, tests)).exit()
    }

    /// The tests, ignored where what they need is not there.
    pub(crate) fn trials(&self, is_there: bool, tests: &[Test]) -> Vec<Trial> {
        let is_required = std::env::var(self.variable).is_ok_and(|v| !v.is_empty() && v != "0");
        let trial = |&(name, test): &Test| match is_there || is_required {
            true => Trial::test(name, test),
            // The kind is printed before the name: it is the reason.
            false => Trial::test(name, test)
                .with_kind(format!("needs {}", self.script))
                .with_ignored_flag(true),
        };
        tests.iter().map(trial).collect()
    }

    /// Python with the libraries.
    pub(crate) fn interpreter(&self) -> Command {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let installed = root.join(self.folder).join("bin/python");
        Command::new(if installed.is_file() { installed } else { PathBuf::from("python3") })
    }
}

/// Runs a command and gives what it says, in both cases.
pub(crate) fn finish(command: &mut Command) -> Result<String, Failed> {
    let out = command.output()?;
    let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    if out.status.success() { Ok(said) } else { Err(format!("{command:?}\n{said}").into()) }
}
