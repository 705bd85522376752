//! TERM, USR1 and INT ask a run to stop at the next step boundary; a second INT ends it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;

use crate::error::{Error, Kind, Result};

/// Which signal has come, if any.
#[derive(Clone)]
pub struct Signals {
    caught: Arc<AtomicUsize>,
}

impl Signals {
    /// Starts listening.
    pub fn listen() -> Result<Self> {
        let caught = Arc::new(AtomicUsize::new(0));
        let again = Arc::new(AtomicBool::new(false));
        let register = || -> std::io::Result<()> {
            // The shutdown is registered first, so the first INT does not see its own flag.
            flag::register_conditional_shutdown(
                SIGINT,
                Kind::Interrupted.exit_code().into(),
                again.clone(),
            )?;
            flag::register(SIGINT, again.clone())?;
            for signal in [SIGTERM, SIGUSR1, SIGINT] {
                flag::register_usize(signal, caught.clone(), signal as usize)?;
            }
            Ok(())
        };
        register().map_err(|e| Error::device(format!("cannot listen for signals: {e}")))?;
        Ok(Self { caught })
    }

    /// Hears nothing: for runs inside another program.
    pub fn none() -> Self {
        Self { caught: Arc::default() }
    }

    /// How the run must end because of a signal, if one has come.
    pub fn stop(&self) -> Option<Kind> {
        match self.caught.load(Ordering::Relaxed) as i32 {
            0 => None,
            SIGINT => Some(Kind::Interrupted),
            _ => Some(Kind::Stopped),
        }
    }
}
