//! Ranges of values: what no run could use is refused before it starts.

use super::Config;

/// A value that cannot be used: its key and what was expected.
pub(super) type Complaint = (&'static str, String);

/// Numbers that a key may have.
enum Range {
    /// lo ≤ x ≤ hi.
    Within(f64, f64),
    /// 0 < x ≤ hi.
    PositiveUpTo(f64),
    /// lo ≤ x < hi.
    HalfOpen(f64, f64),
}

use Range::{HalfOpen, PositiveUpTo, Within};

impl Range {
    fn contains(&self, x: f64) -> bool {
        match *self {
            Within(lo, hi) => lo <= x && x <= hi,
            PositiveUpTo(hi) => 0.0 < x && x <= hi,
            HalfOpen(lo, hi) => lo <= x && x < hi,
        }
    }

    fn words(&self) -> String {
        match *self {
            Within(lo, hi) => format!("expected {lo} to {hi}"),
            PositiveUpTo(hi) => format!("expected more than 0, at most {hi}"),
            HalfOpen(lo, hi) => format!("expected at least {lo} and less than {hi}"),
        }
    }
}

/// The first value out of its range, then the first pair of values that do not go together.
pub(super) fn check(c: &Config) -> Result<(), Complaint> {
    for (key, value, range) in ranges(c) {
        if !range.contains(value) {
            return Err((key, range.words()));
        }
    }
    together(c)
}

fn ranges(c: &Config) -> Vec<(&'static str, f64, Range)> {
    let (t, m, v) = (&c.train, &c.moco, &c.views);
    vec![
        // TOML's whole numbers have 63 bits.
        ("seed", c.seed as f64, Within(0.0, i64::MAX as f64)),
        ("train.batch", t.batch as f64, Within(2.0, 65_536.0)),
        ("train.epochs", t.epochs, PositiveUpTo(1e6)),
        ("train.lr", t.lr, Within(0.0, 1000.0)),
        ("train.momentum", t.momentum, HalfOpen(0.0, 1.0)),
        ("train.weight_decay", t.weight_decay, Within(0.0, 1.0)),
        ("train.warmup_epochs", t.warmup_epochs, Within(0.0, 1e6)),
        ("train.bn_group", t.bn_group as f64, Within(0.0, 65_536.0)),
        ("train.accum", t.accum as f64, Within(1.0, 32_768.0)),
        ("moco.queue", m.queue as f64, Within(1.0, 1_048_576.0)),
        ("moco.tau", m.tau, PositiveUpTo(100.0)),
        ("moco.ema", m.ema, Within(0.0, 1.0)),
        ("moco.dim", m.dim as f64, Within(1.0, 65_536.0)),
        ("moco.hidden", m.hidden as f64, Within(1.0, 65_536.0)),
        ("views.crop_min", v.crop_min, PositiveUpTo(1.0)),
        ("views.crop_max", v.crop_max, PositiveUpTo(1.0)),
        ("views.jitter_p", v.jitter_p, Within(0.0, 1.0)),
        ("views.brightness", v.brightness, Within(0.0, 1.0)),
        ("views.contrast", v.contrast, Within(0.0, 1.0)),
        ("views.saturation", v.saturation, Within(0.0, 1.0)),
        ("views.hue", v.hue, Within(0.0, 0.5)),
        ("views.grey_p", v.grey_p, Within(0.0, 1.0)),
        ("views.blur_p", v.blur_p, Within(0.0, 1.0)),
        ("views.blur_sigma_min", v.blur_sigma_min, PositiveUpTo(32.0)),
        ("views.blur_sigma_max", v.blur_sigma_max, PositiveUpTo(32.0)),
        ("views.flip_p", v.flip_p, Within(0.0, 1.0)),
        ("data.workers", c.data.workers as f64, Within(0.0, 1024.0)),
        ("data.max_corrupt", c.data.max_corrupt, Within(0.0, 1.0)),
        ("ckpt.keep", c.ckpt.keep as f64, Within(1.0, 1e6)),
        ("log.every", c.log.every as f64, Within(1.0, 1e9)),
        ("probe.images", c.probe.images as f64, Within(4.0, 1e6)),
        ("search.tau", c.search.tau, PositiveUpTo(100.0)),
    ]
}

fn together(c: &Config) -> Result<(), Complaint> {
    let (t, v) = (&c.train, &c.views);
    let complain = |key, expected: String| Err((key, expected));
    if t.bn_group == 1 {
        return complain(
            "train.bn_group",
            "expected 0 (the whole batch) or at least 2 pictures to take statistics of".into(),
        );
    }
    if t.batch % t.accum != 0 || t.batch / t.accum < 2 {
        return complain(
            "train.accum",
            format!(
                "expected a divisor of train.batch ({}) that leaves parts of 2 or more",
                t.batch
            ),
        );
    }
    if t.warmup_epochs > t.epochs {
        return complain(
            "train.warmup_epochs",
            format!("expected at most train.epochs ({})", t.epochs),
        );
    }
    if v.crop_min > v.crop_max {
        return complain(
            "views.crop_min",
            format!("expected at most views.crop_max ({})", v.crop_max),
        );
    }
    if v.blur_sigma_min > v.blur_sigma_max {
        return complain(
            "views.blur_sigma_min",
            format!("expected at most views.blur_sigma_max ({})", v.blur_sigma_max),
        );
    }
    Ok(())
}
