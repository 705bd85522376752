//! What no run could use is refused before it starts: values out of their range, and values that do
//! not go together.

use toml::Value;

use super::keys::key;
use super::{Body, Config};

/// A value that cannot be used: its key and what was expected.
pub(super) type Complaint = (&'static str, String);

/// The first value out of its range, then the first pair of values that do not go together.
pub(super) fn check(c: &Config) -> Result<(), Complaint> {
    if c.seed > i64::MAX as u64 {
        // TOML's whole numbers have 63 bits.
        return Err(("seed", format!("expected 0 to {}", i64::MAX)));
    }
    for (name, value) in c.entries() {
        let number = match value {
            Value::Integer(n) => n as f64,
            Value::Float(x) => x,
            _ => continue,
        };
        if let Some(key) = key(&name).filter(|key| !key.allowed.holds(number)) {
            return Err((key.name, format!("expected {}", key.allowed.words())));
        }
    }
    together(c)
}

fn together(c: &Config) -> Result<(), Complaint> {
    let (t, v) = (&c.train, &c.views);
    let complain = |key, expected: String| Err((key, expected));
    if let Err(e) = c.space() {
        return complain("sampling.arch", e.to_string());
    }
    if t.bn_group == 1 {
        return complain(
            "train.bn_group",
            "expected 0 (the whole batch) or at least 2 images to take statistics of".into(),
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
    let crop_min = c.views2.crop_min.or(v.crop_min);
    if crop_min > v.crop_max {
        return complain(
            "views2.crop_min",
            format!("expected at most views.crop_max ({})", v.crop_max),
        );
    }
    if c.finetune.cutmix > 0.0 && c.finetune.body == Body::Frozen {
        return complain(
            "finetune.cutmix",
            "expected 0 with finetune.body=frozen, whose classifiers share their features".into(),
        );
    }
    if c.seg.scale_min > c.seg.scale_max {
        return complain(
            "seg.scale_min",
            format!("expected at most seg.scale_max ({})", c.seg.scale_max),
        );
    }
    if (c.seg.long == 0) != (c.seg.short == 0) || c.seg.short > c.seg.long {
        return complain(
            "seg.short",
            format!("expected 1 to seg.long ({}), or 0 for both", c.seg.long),
        );
    }
    if c.det.short_min > c.det.short_max {
        return complain(
            "det.short_min",
            format!("expected at most det.short_max ({})", c.det.short_max),
        );
    }
    let colours = [
        ("views.saturation", v.saturation),
        ("views.hue", v.hue),
        ("views.grey_p", v.grey_p),
        ("views2.grey_p", c.views2.grey_p.or(v.grey_p)),
    ];
    let channels = c.preset.channels();
    if let Some((key, _)) = colours.iter().find(|(_, x)| channels != 3 && *x > 0.0) {
        return complain(
            key,
            format!("expected 0: images of {channels} channels are no RGB images, which have it"),
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
