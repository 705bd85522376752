//! Signals. TERM, USR1 and INT ask a run to stop: at the next step boundary, or in between where
//! nothing would be lost; a second INT ends it at once. A file that grows past `ulimit -f` is an
//! error of the write, not a signal that ends the process.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::{flag, low_level};

use crate::error::{Error, Kind, Result};

/// What the process hears, once it listens. There is one for the whole process, as signals are.
static HEARD: OnceLock<Heard> = OnceLock::new();

struct Heard {
    /// Newest signal; 0: none yet.
    caught: Arc<AtomicUsize>,
    /// Whether signals end the process as if nobody listened.
    unheeded: Arc<AtomicBool>,
}

/// Which signal has come, if any.
#[derive(Clone)]
pub struct Signals {
    caught: Arc<AtomicUsize>,
}

impl Signals {
    /// Starts listening, unless the process does already.
    ///
    /// # Errors
    /// [`Kind::Device`] where the system refuses.
    pub fn listen() -> Result<Self> {
        static FIRST: Mutex<()> = Mutex::new(());
        let _one_at_a_time = FIRST.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = match HEARD.get() {
            Some(heard) => heard,
            None => {
                let registered = register()
                    .map_err(|e| Error::device(format!("cannot listen for signals: {e}")))?;
                HEARD.get_or_init(|| registered)
            }
        };
        Ok(Self { caught: heard.caught.clone() })
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

fn register() -> std::io::Result<Heard> {
    let caught = Arc::new(AtomicUsize::new(0));
    let (unheeded, again) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    for signal in [SIGTERM, SIGUSR1, SIGINT] {
        flag::register_conditional_default(signal, unheeded.clone())?;
    }
    // The shutdown is registered first, so the first INT does not see its own flag.
    let code = Kind::Interrupted.exit_code().into();
    flag::register_conditional_shutdown(SIGINT, code, again.clone())?;
    flag::register(SIGINT, again)?;
    for signal in [SIGTERM, SIGUSR1, SIGINT] {
        flag::register_usize(signal, caught.clone(), signal as usize)?;
    }
    Ok(Heard { caught, unheeded })
}

/// From now on signals end the process as if nobody listened; one that has come does so now. For
/// what has nothing to keep.
pub fn heed_no_more() {
    let Some(heard) = HEARD.get() else { return };
    heard.unheeded.store(true, Ordering::Relaxed);
    let caught = heard.caught.load(Ordering::Relaxed);
    if caught != 0 {
        // The three that are heard have a default that ends the process.
        let _ = low_level::emulate_default_handler(caught as i32);
    }
}

/// For long work of which nothing is kept yet, between its parts: reading, measuring, filling.
///
/// # Errors
/// [`Kind::Stopped`] or [`Kind::Interrupted`] where a signal has come. Never where the process
/// does not listen.
pub fn go_on() -> Result<()> {
    let stop = HEARD.get().and_then(|heard| Signals { caught: heard.caught.clone() }.stop());
    stop.map_or(Ok(()), |kind| {
        let what = "stopped before anything was done that could be kept; the same command \
                    starts again";
        Err(Error::new(kind, what))
    })
}

/// Lets writes fail where a file would grow past `ulimit -f`, instead of ending the process.
///
/// # Errors
/// [`Kind::Device`] where the system refuses.
pub fn let_large_files_fail() -> Result<()> {
    // A signal that is caught leaves the error to the write.
    let noted = flag::register(SIGXFSZ, Arc::default());
    noted.map(drop).map_err(|e| Error::device(format!("cannot listen for signals: {e}")))
}
