//! `--filter`.

use regex_lite::Regex;

/// Runs only what has a name that matches.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Filter {
    /// Only what matches this regular expression by its name.
    #[arg(long, value_name = "RE")]
    filter: Option<Regex>,
}

impl Filter {
    /// Whether a name matches; all do without a filter.
    pub(super) fn matches(&self, name: &str) -> bool {
        self.filter.as_ref().is_none_or(|re| re.is_match(name))
    }
}
