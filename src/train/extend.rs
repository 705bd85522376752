//! More epochs for a run than it had at first. The one rule: from the step at which a run goes
//! on with more epochs, its learning rate is that of a run which had the new length from its first
//! step, the same half cosine stretched. So the rate may rise at that step; a warm-up that is over
//! is not repeated.
//!
//! The rate is a function of the settings, the step and the `steps` of the state alone, so a run
//! that was extended and then killed resumes bit for bit.

use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, State};
use super::job::Course;
use crate::config::Config;
use crate::error::{Error, Kind, Result};

/// The key that may grow.
pub(super) const EPOCHS: &str = "train.epochs";

/// A point at which a run was given more steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Steps done when it was.
    pub step: u64,
    /// Steps of the whole run until then.
    pub from: u64,
    /// Steps of the whole run from then on.
    pub to: u64,
}

/// The state that a run goes on from: the checkpoint's, with the length of the run that is wanted
/// `now`. The two are the same run but for that.
///
/// # Errors
/// [`Kind::Resume`] where the run would become shorter.
pub(super) fn go_on(checkpoint: &Checkpoint, now: &State) -> Result<State> {
    let then = &checkpoint.state;
    let mut state = then.clone();
    let epochs = |state: &State| state.config.get(EPOCHS).cloned().unwrap_or_default();
    if now.steps < then.steps {
        return Err(Error::new(
            Kind::Resume,
            format!(
                "cannot continue {}: {EPOCHS} is {}, but the checkpoint is of a run of {} epochs; \
                 it may only grow, since the learning rate of the steps done was that of the \
                 longer run; use {EPOCHS}={} or more, or end the run early with --max-steps",
                checkpoint.dir.display(),
                epochs(now),
                epochs(then),
                epochs(then),
            ),
        ));
    }
    if now.steps > then.steps {
        state.extended.push(Extension { step: then.step, from: then.steps, to: now.steps });
        state.steps = now.steps;
        state.config.insert(EPOCHS.into(), epochs(now));
    }
    Ok(state)
}

/// What the log says where the run from `checkpoint` goes on longer than planned at first.
pub(super) fn notice(
    config: &Config,
    course: &Course,
    checkpoint: &Checkpoint,
    state: &State,
    steps_per_epoch: u64,
) -> Option<String> {
    let last = state.extended.last().filter(|_| state.steps > checkpoint.state.steps)?;
    let rate = |steps| course.rate(config, last.step, steps, steps_per_epoch);
    Some(format!(
        "the run is longer than before: {} steps instead of {}; from step {} on its learning rate \
         is that of a run of {} steps: it goes from {:.6} (old schedule) to {:.6}",
        last.to,
        last.from,
        last.step,
        last.to,
        rate(last.from),
        rate(last.to)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::Schedule;
    use crate::train::checkpoint::tests::state;

    fn checkpoint(step: u64, steps: u64, epochs: &str) -> Checkpoint {
        let config = [(EPOCHS.to_owned(), epochs.to_owned())].into();
        Checkpoint {
            dir: "run/checkpoints/x".into(),
            state: State { steps, config, ..state(step) },
        }
    }

    #[test]
    fn runs_grow_and_do_not_shrink() {
        let done = checkpoint(6, 6, "1.0");
        let same = go_on(&done, &done.state).unwrap();
        assert_eq!(same, done.state);
        let now = checkpoint(0, 12, "2.0").state;
        let longer = go_on(&done, &now).unwrap();
        assert_eq!((longer.step, longer.steps), (6, 12));
        assert_eq!(longer.config[EPOCHS], "2.0");
        assert_eq!(longer.extended, [Extension { step: 6, from: 6, to: 12 }]);
        // A second time, in the middle.
        let middle = Checkpoint { state: State { step: 9, ..longer }, ..done };
        let twice = go_on(&middle, &checkpoint(0, 18, "3.0").state).unwrap();
        assert_eq!(twice.extended[1], Extension { step: 9, from: 12, to: 18 });
        let err = go_on(&middle, &checkpoint(0, 11, "1.9").state).unwrap_err();
        assert_eq!((err.kind(), err.exit_code()), (Kind::Resume, 6));
        assert!(err.to_string().contains("may only grow"), "{err}");
    }

    #[test]
    fn the_notice_tells_both_rates() {
        let mut config = Config::for_preset("tiny").unwrap();
        (config.train.lr, config.train.warmup_epochs) = (0.08, 0.5);
        let done = checkpoint(6, 6, "1.0");
        let longer = go_on(&done, &checkpoint(0, 9, "1.5").state).unwrap();
        let course = &Course::PRETRAINING;
        assert_eq!(notice(&config, course, &done, &done.state, 6), None);
        let said = notice(&config, course, &done, &longer, 6).unwrap();
        // Half of the cosine after three steps of warm-up.
        assert!(said.contains("from 0.000000 (old schedule) to 0.040000"), "{said}");
        assert_eq!(course.rate(&config, 5, 9, 6), Schedule::cosine(0.08, 3).at(5, 9));
    }
}
