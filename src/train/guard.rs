//! What is said and done where embeddings collapse.

use super::advice::advice;
use super::checkpoint::State;
use super::health::{COLLAPSED_SPREAD, Change, Health};
use crate::config::Config;
use crate::error::{Error, Kind, Result};

/// Least number of collapsed steps, less others, after which a run stops.
const COLLAPSE_STEPS: u64 = 200;
/// A run stops after a part of this many of its steps, where that is more.
const COLLAPSE_PARTS: u64 = 100;

/// The line of a verdict that has changed: with what to change where it got worse.
pub(super) fn changed(change: Change, config: &Config, state: &State) -> String {
    let Change { from, to } = change;
    let (step, facts) = (state.step, state.health.in_words());
    match to > from {
        true => format!(
            "training is {to}, was {from} (step {step}): {facts}; {}",
            remedies(config, state)
        ),
        false => format!("training recovers: {to}, was {from} (step {step}): {facts}"),
    }
}

/// Counts a step. Exit 4 where embeddings have been collapsed for too long.
pub(super) fn watch(config: &Config, state: &mut State) -> Result<()> {
    let most = COLLAPSE_STEPS.max(state.steps / COLLAPSE_PARTS);
    state.collapsed_steps = match state.health.health {
        Health::Collapsed => (state.collapsed_steps + 1).min(most),
        _ => state.collapsed_steps.saturating_sub(1),
    };
    match config.guard.collapse && state.collapsed_steps >= most {
        true => Err(collapsed(config, state, &format!("for {most} steps"))),
        false => Ok(()),
    }
}

/// Exit 4 where a run that ends now has collapsed embeddings.
pub(super) fn at_end(config: &Config, state: &State) -> Result<()> {
    match config.guard.collapse && state.health.ends_collapsed() {
        true => Err(collapsed(config, state, "at the end")),
        false => Ok(()),
    }
}

fn collapsed(config: &Config, state: &State, when: &str) -> Error {
    Error::new(
        Kind::Diverged,
        format!(
            "training collapsed: {when} (step {}) all images had nearly the same embedding: {}; \
             expected a spread above {COLLAPSED_SPREAD}; {}; or go on with guard.collapse=false",
            state.step,
            state.health.in_words(),
            remedies(config, state),
        ),
    )
}

fn remedies(config: &Config, state: &State) -> String {
    format!("what may help a new run: {}", advice(&config.flat(), state.steps).join("; "))
}
