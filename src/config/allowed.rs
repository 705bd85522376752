//! What is known of a key of the settings: its meaning, and which values it may have.

use crate::space::presets;

/// What is known of a key.
pub struct Key {
    /// Its name, `train.lr`.
    pub name: &'static str,
    /// What it is, in sentences.
    pub about: &'static str,
    /// The unit of its values; empty where they have none.
    pub unit: &'static str,
    /// The values that it may have.
    pub allowed: Allowed,
    /// Where its default comes from: a paper, code, or a page of the documentation.
    pub source: &'static str,
}

/// Values that a key may have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Allowed {
    /// lo ≤ x ≤ hi.
    Within(f64, f64),
    /// 0 < x ≤ hi.
    PositiveUpTo(f64),
    /// lo ≤ x < hi.
    HalfOpen(f64, f64),
    /// One of these words, and what each means.
    Words(&'static [&'static str], &'static [&'static str]),
    /// True or false.
    Switch,
    /// Steps, epochs or a length of time.
    Interval {
        /// Whether the word `auto` is allowed, too.
        auto: bool,
    },
    /// The word `same`, or one of these.
    SameOr(&'static Allowed),
    /// The ID of an architecture, or `none`.
    Id,
    /// The name of a file, or `none`.
    File,
    /// The name of a search space, or of a file that holds one.
    Preset,
}

use Allowed::{File, HalfOpen, Id, Interval, PositiveUpTo, Preset, SameOr, Switch, Within, Words};

impl Allowed {
    /// Whether a number is allowed.
    pub(super) fn holds(self, x: f64) -> bool {
        match self {
            Within(lo, hi) => lo <= x && x <= hi,
            PositiveUpTo(hi) => 0.0 < x && x <= hi,
            HalfOpen(lo, hi) => lo <= x && x < hi,
            SameOr(other) => other.holds(x),
            _ => true,
        }
    }

    /// The words that are allowed, and what each means.
    pub(super) fn explained(self) -> Option<(&'static [&'static str], &'static [&'static str])> {
        match self {
            Words(names, about) => Some((names, about)),
            Preset => Some((&presets::NAMES, &presets::ABOUT)),
            _ => None,
        }
    }

    /// The allowed values in words, as they follow “expected”.
    pub fn words(self) -> String {
        // Whole numbers to the last digit: i64::MAX is one of them.
        let show = |x: f64| if x.fract() == 0.0 { (x as i64).to_string() } else { x.to_string() };
        match self {
            Within(lo, hi) => format!("{} to {}", show(lo), show(hi)),
            PositiveUpTo(hi) => format!("more than 0, at most {}", show(hi)),
            HalfOpen(lo, hi) => format!("at least {} and less than {}", show(lo), show(hi)),
            Words(names, _) => names.join(" or "),
            Switch => "true or false".into(),
            Interval { auto } => {
                let auto = if auto { ", or auto" } else { "" };
                format!("steps (1000), epochs (5ep) or a length of time (30m, 11h50m){auto}")
            }
            SameOr(other) => format!("same, or {}", other.words()),
            Id => "none, or the ID of an architecture of the preset, such as \
                   s32-w48.96.192.512-d2.2.5.2"
                .into(),
            File => "none, or the name of a file".into(),
            Preset => format!(
                "{}, or a file *.toml with a space of your own (docs/spaces.md)",
                presets::NAMES.join(" or ")
            ),
        }
    }
}
