//! The learning rate's schedule.

/// Learning rate of a step: rises linearly from 0 over `warmup` steps, then falls to 0 along
/// half a cosine: lr/2·(1 + cos(π·(step − warmup)/(steps − warmup))).
pub fn cosine_lr(lr: f64, step: u64, steps: u64, warmup: u64) -> f64 {
    if step < warmup {
        return lr * (step + 1) as f64 / warmup as f64;
    }
    let part = (step - warmup) as f64 / (steps.saturating_sub(warmup)).max(1) as f64;
    0.5 * lr * (1.0 + (std::f64::consts::PI * part.min(1.0)).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedule_has_the_right_ends() {
        assert_eq!(cosine_lr(1.0, 0, 100, 0), 1.0);
        assert!((cosine_lr(1.0, 50, 100, 0) - 0.5).abs() < 1e-12);
        assert!(cosine_lr(1.0, 99, 100, 0) < 3e-4);
        assert_eq!(cosine_lr(1.0, 0, 100, 10), 0.1);
        assert_eq!(cosine_lr(1.0, 9, 100, 10), 1.0);
        assert_eq!(cosine_lr(1.0, 10, 100, 10), 1.0);
    }
}
