//! Parsers of arguments that several verbs take.

use crate::error::{Error, Result};

/// Parses a number of images that statistics can be taken of.
pub fn at_least_two(s: &str) -> Result<usize> {
    let number = s.parse().ok().filter(|&n| n >= 2);
    number.ok_or_else(|| Error::usage(format!("{s:?}: expected a number of at least 2")))
}

/// Parses a number of something that there must be.
pub fn at_least_one(s: &str) -> Result<usize> {
    let number = s.parse().ok().filter(|&n| n >= 1);
    number.ok_or_else(|| Error::usage(format!("{s:?}: expected a number of at least 1")))
}
