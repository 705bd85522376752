//! What a person sees while work goes on: a bar on a terminal, a line every `log.every`
//! steps elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Progress over a known number of steps.
pub struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
    first: u64,
    steps: u64,
}

impl Progress {
    /// From step `first` (after a resume) to `steps`; no bar where `quiet` or no terminal.
    pub fn new(first: u64, steps: u64, quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar =
                ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr_with_hz(4));
            let style = ProgressStyle::with_template("{bar:20} {pos}/{len}  {wide_msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_position(first);
            bar
        });
        Self { bar, started: Instant::now(), first, steps }
    }

    /// Whether a bar is drawn, so that lines are not needed.
    pub fn is_bar(&self) -> bool {
        self.bar.is_some()
    }

    /// Seconds to go after `done` steps, from the mean speed since the start or resume.
    pub fn eta_s(&self, done: u64) -> Option<f64> {
        let here = done.checked_sub(self.first).filter(|&n| n > 0)?;
        let each_s = self.started.elapsed().as_secs_f64() / here as f64;
        Some(each_s * self.steps.saturating_sub(done) as f64)
    }

    /// Moves the bar.
    pub fn set(&self, done: u64, message: String) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(message);
        }
    }

    /// Leaves `time` out of the estimate: it went into something else than steps.
    pub fn leave_out(&mut self, time: Duration) {
        self.started += time;
    }

    /// Does something that writes to the terminal, with the bar out of the way.
    pub fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(work),
            None => work(),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// `1h02m`, `3m20s`, `12s`.
pub fn human_duration(seconds: f64) -> String {
    let s = Duration::from_secs_f64(seconds.clamp(0.0, 1e12)).as_secs();
    match (s / 86_400, s / 3600 % 24, s / 60 % 60, s % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m{s:02}s"),
        (0, h, m, _) => format!("{h}h{m:02}m"),
        (d, h, _, _) => format!("{d}d{h:02}h"),
    }
}

/// `812 images/s`, `4.2 images/s`; below one, `13.5 s/image`.
pub fn human_rate(images_per_s: f64) -> String {
    match images_per_s {
        rate if rate >= 10.0 => format!("{rate:.0} images/s"),
        rate if rate >= 1.0 => format!("{rate:.1} images/s"),
        rate if rate > 0.0 => format!("{:.1} s/image", 1.0 / rate),
        _ => "0 images/s".into(),
    }
}

/// `1.5 GiB`, `23 MiB`.
pub fn human_bytes(bytes: usize) -> String {
    let mib = bytes as f64 / (1 << 20) as f64;
    match mib {
        _ if mib >= 1024.0 => format!("{:.1} GiB", mib / 1024.0),
        _ if mib >= 1.0 => format!("{mib:.0} MiB"),
        _ => format!("{:.0} KiB", mib * 1024.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_rates_and_bytes_read_well() {
        assert_eq!(human_duration(12.4), "12s");
        assert_eq!(human_duration(200.0), "3m20s");
        assert_eq!(human_duration(3725.0), "1h02m");
        assert_eq!(human_duration(90_000.0), "1d01h");
        let rates = [812.4, 4.21, 0.074, 0.0].map(human_rate);
        assert_eq!(rates, ["812 images/s", "4.2 images/s", "13.5 s/image", "0 images/s"]);
        assert_eq!(human_bytes(3 << 30), "3.0 GiB");
        assert_eq!(human_bytes(23 << 20), "23 MiB");
    }
}
