//! Architectures and their IDs, `s32-w48.96.192.512-d2.2.5.2`: stem; widths; depths.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::STAGES;
use crate::error::{Error, Result};

/// One subnet: it uses the first channels of every weight and the first blocks of every stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Arch {
    /// Output channels of the stem.
    pub stem: usize,
    /// Width of each stage.
    pub widths: [usize; STAGES],
    /// Blocks of each stage.
    pub depths: [usize; STAGES],
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([a, b, c, d], [i, j, k, l]) = (self.widths, self.depths);
        write!(f, "s{}-w{a}.{b}.{c}.{d}-d{i}.{j}.{k}.{l}", self.stem)
    }
}

impl From<Arch> for String {
    fn from(arch: Arch) -> String {
        arch.to_string()
    }
}

impl TryFrom<String> for Arch {
    type Error = Error;
    fn try_from(s: String) -> Result<Self> {
        s.parse()
    }
}

impl FromStr for Arch {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        parse(s).ok_or_else(|| {
            Error::usage(format!(
                "{s:?} is not an architecture: expected s<stem>-w<w1>.<w2>.<w3>.<w4>-d<d1>.<d2>.<d3>.<d4> \
                 with positive numbers, such as s32-w48.96.192.512-d2.2.5.2"
            ))
        })
    }
}

fn parse(s: &str) -> Option<Arch> {
    let mut parts = s.split('-');
    let stem = number(parts.next()?.strip_prefix('s')?)?;
    let widths = four(parts.next()?.strip_prefix('w')?)?;
    let depths = four(parts.next()?.strip_prefix('d')?)?;
    parts.next().is_none().then_some(Arch { stem, widths, depths })
}

fn four(s: &str) -> Option<[usize; STAGES]> {
    let numbers: Option<Vec<usize>> = s.split('.').map(number).collect();
    numbers?.try_into().ok()
}

fn number(s: &str) -> Option<usize> {
    let digits = !s.is_empty() && s.len() <= 5 && s.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| s.parse().ok()).flatten().filter(|&n| n > 0)
}
