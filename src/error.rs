//! One error type for the whole program: what went wrong, in words for the person who
//! reads them, and the kind, which decides the exit code.

use std::any::Any;
use std::fmt;
use std::path::Path;

use crate::outside::{harmless, printable};

/// What kind of failure it was, which decides the process's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Wrong flag, key, value, architecture or budget; a folder in the way.
    Usage,
    /// Images, checkpoints or weights that cannot be read or are not what they claim.
    Data,
    /// Training diverged (a number stopped being finite) or collapsed.
    Diverged,
    /// The device, or the disk that a result must be written to.
    Device,
    /// The device's memory does not suffice.
    Memory,
    /// A checkpoint that does not belong to the run that wants to continue from it.
    Resume,
    /// An export that is not the same net, or a benchmark that regressed.
    Parity,
    /// Stopped by TERM or USR1 after a checkpoint; can be resumed.
    Stopped,
    /// Stopped by INT after a checkpoint.
    Interrupted,
}

impl Kind {
    /// The process's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Data => 3,
            Self::Diverged => 4,
            Self::Device | Self::Memory => 5,
            Self::Resume => 6,
            Self::Parity => 7,
            Self::Stopped => 75,
            Self::Interrupted => 130,
        }
    }

    /// What a command that ended with this code, not 0, failed of; a fault of engine's own counts as
    /// the device's.
    pub fn of_exit_code(code: u8) -> Self {
        let all = [
            Self::Usage,
            Self::Data,
            Self::Diverged,
            Self::Resume,
            Self::Parity,
            Self::Stopped,
            Self::Interrupted,
        ];
        all.into_iter().find(|kind| kind.exit_code() == code).unwrap_or(Self::Device)
    }
}

/// An error: its [`Kind`] and a message that says what was expected, what was found, where,
/// and what to do.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
}

/// The result of nearly everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of a given kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
    /// Usage or configuration (exit 2).
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }
    /// Data (exit 3).
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(Kind::Data, message)
    }
    /// Device or disk (exit 5).
    pub fn device(message: impl Into<String>) -> Self {
        Self::new(Kind::Device, message)
    }
    /// Memory (exit 5).
    pub fn memory(message: impl Into<String>) -> Self {
        Self::new(Kind::Memory, message)
    }
    /// A file or folder that could not be read (exit 3).
    pub fn read(path: &Path, err: impl fmt::Display) -> Self {
        Self::data(format!("cannot read {}: {err}", printable(path)))
    }
    /// A file or folder that could not be written (exit 5).
    pub fn write(path: &Path, err: impl fmt::Display) -> Self {
        Self::device(format!("cannot write {}: {err}", printable(path)))
    }
    /// The same error with words in front: `context: message`.
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }
    /// The same error with words behind: `message; more`.
    pub fn and(mut self, more: &str) -> Self {
        self.message = format!("{}; {more}", self.message);
        self
    }
    /// What kind of failure it was.
    pub fn kind(&self) -> Kind {
        self.kind
    }
    /// The process's exit code for this error.
    pub fn exit_code(&self) -> u8 {
        self.kind.exit_code()
    }
}

/// ` (did you mean …?)` with the option nearest to what was written, or nothing where none is
/// near: the end of a message about an unknown word.
pub fn nearest<S: AsRef<str>>(written: &str, options: impl IntoIterator<Item = S>) -> String {
    let written = written.to_lowercase();
    // The first sees a common beginning, the second letters that changed places.
    let alike = |a: &str, b: &str| {
        strsim::jaro_winkler(a, b).max(strsim::normalized_damerau_levenshtein(a, b) + 0.1)
    };
    let name = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
    let score = |option: &str| {
        let option = option.to_lowercase();
        let whole = alike(&written, &option);
        // A key may have been given without its section, or with another.
        if option.contains('.') {
            whole.max(alike(&name(&written), &name(&option)) - 0.05)
        } else {
            whole
        }
    };
    options
        .into_iter()
        .map(|o| (score(o.as_ref()), o))
        .filter(|(score, _)| *score > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or(String::new(), |(_, o)| format!(" (did you mean {:?}?)", o.as_ref()))
}

/// What a panic says.
pub fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        harmless(&self.message).fmt(f)
    }
}

impl std::error::Error for Error {}
