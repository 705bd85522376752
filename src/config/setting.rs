//! Settings as they are written: values for keys, from files and command lines.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::Method;
use super::keys;
use crate::error::{Error, Result};
use crate::outside::{printable, read_at_most};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The default of every preset.
    Default,
    /// The default of this preset.
    Preset(String),
    /// The default of this method.
    Method(Method),
    /// The default of this method in this preset.
    PresetAndMethod(String, Method),
    /// A recipe of fine-tuning.
    Recipe(&'static str),
    /// Tried against others, on these images.
    Tried(&'static str),
    /// A line (from 1) of a file.
    File(PathBuf, usize),
    /// A `key=value` word of the command line.
    CommandLine,
    /// A flag, say `--seed`.
    Flag(&'static str),
    /// Measured on the images, and why.
    Images(String),
    /// The checkpoint that a run goes on from.
    Checkpoint,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Preset(name) => write!(f, "default of preset {name}"),
            Self::Method(method) => write!(f, "default of {method}"),
            Self::PresetAndMethod(name, method) => {
                write!(f, "default of {method} in preset {name}")
            }
            Self::Recipe(name) => write!(f, "recipe {name}"),
            Self::Tried(on) => write!(f, "the best of those tried on {on}"),
            // Debug: a file's name may hold any character, and this goes into a comment.
            Self::File(path, line) => write!(f, "{path:?} line {line}"),
            Self::CommandLine => f.write_str("command line"),
            Self::Flag(flag) => f.write_str(flag),
            Self::Images(reason) => write!(f, "follows the images: {reason}"),
            Self::Checkpoint => f.write_str("as the run began"),
        }
    }
}

/// A value for a key, and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Dotted key, say `train.lr`.
    pub key: String,
    /// The value as written.
    pub value: Value,
    /// Its origin.
    pub origin: Origin,
}

impl Setting {
    pub(super) fn wrong(&self, expected: impl fmt::Display) -> Error {
        Error::usage(format!("{} = {} ({}): {expected}", self.key, self.value, self.origin))
    }
}

/// Bytes of a file of settings, at most.
const MOST_BYTES: u64 = 1 << 20;

/// Whether a word of the command line is meant as `key=value`.
pub fn looks_like_word(word: &str) -> bool {
    word.split_once('=').is_some_and(|(key, _)| {
        key.starts_with(|c: char| c.is_ascii_lowercase())
            && key
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.".contains(&b))
    })
}

/// Parses a `key=value` word. The value is read as TOML where it is TOML (`0.06`, `true`),
/// else as text (`paper`, `30m`).
pub fn word(word: &str) -> Result<Setting> {
    let (key, text) = word.split_once('=').ok_or_else(|| {
        Error::usage(format!(
            "{word:?} is neither a flag nor a setting: expected key=value, such as train.lr=0.06"
        ))
    })?;
    let value = text.parse().unwrap_or_else(|_| Value::String(text.to_owned()));
    Ok(Setting { key: key.trim().to_owned(), value, origin: Origin::CommandLine })
}

/// A value given by a flag.
pub fn flag(flag: &'static str, key: &str, value: impl Into<Value>) -> Setting {
    Setting { key: key.to_owned(), value: value.into(), origin: Origin::Flag(flag) }
}

/// Reads the settings of a TOML file, in order. Exit 2 where it cannot be read or parsed.
pub fn read_file(path: &Path) -> Result<Vec<Setting>> {
    let at = |e: &dyn fmt::Display| Error::usage(format!("config file {}: {e}", printable(path)));
    let text = read_text(path).map_err(|e| at(&e))?;
    let table: Table = text.parse().map_err(|e: toml::de::Error| at(&e.to_string().trim_end()))?;
    let mut lines = BTreeMap::new();
    if let Ok(spans) = DeTable::parse(&text) {
        collect_lines(spans.get_ref(), "", &text, &mut lines);
    }
    let mut values = Vec::new();
    flatten(&table, "", &mut values);
    Ok(values
        .into_iter()
        .map(|(key, value)| {
            let line = lines.get(&key).copied().unwrap_or(1);
            Setting { key, value, origin: Origin::File(path.to_path_buf(), line) }
        })
        .collect())
}

/// A file's text.
fn read_text(path: &Path) -> std::io::Result<String> {
    let bytes = read_at_most(path, MOST_BYTES, "settings")?;
    String::from_utf8(bytes).map_err(std::io::Error::other)
}

fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}

fn collect_lines(table: &DeTable, prefix: &str, text: &str, lines: &mut BTreeMap<String, usize>) {
    for (key, value) in table {
        let dotted = join(prefix, key.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) if keys::key(&dotted).is_none() => {
                collect_lines(inner, &dotted, text, lines);
            }
            _ => {
                let before = text.get(..key.span().start).unwrap_or_default();
                lines.insert(dotted, before.matches('\n').count() + 1);
            }
        }
    }
}

pub(super) fn flatten(table: &Table, prefix: &str, out: &mut Vec<(String, Value)>) {
    for (key, value) in table {
        let dotted = join(prefix, key);
        match value {
            // A search space is a table, and one value.
            Value::Table(inner) if keys::key(&dotted).is_none() => flatten(inner, &dotted, out),
            value => out.push((dotted, value.clone())),
        }
    }
}
