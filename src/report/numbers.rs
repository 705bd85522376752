//! Numbers as people read them.

use crate::space::budget::si;

/// With so many decimals and a comma between thousands: `12,345.6`.
pub(super) fn fixed(x: f64, decimals: usize) -> String {
    let s = format!("{:.decimals$}", x.abs());
    let (whole, rest) = s.split_at(s.find('.').unwrap_or(s.len()));
    let mut out = String::new();
    for (i, c) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    let negative = x < 0.0 && s.bytes().any(|b| b.is_ascii_digit() && b != b'0');
    format!("{}{out}{rest}", if negative { "−" } else { "" })
}

/// A whole number with a comma between thousands.
pub(super) fn count(n: u64) -> String {
    fixed(n as f64, 0)
}

/// Three significant digits, or fewer where the rest is zeros.
pub(super) fn short(x: f64) -> String {
    if x == 0.0 || !x.is_finite() {
        return if x == 0.0 { "0".into() } else { "not finite".into() };
    }
    if x.abs() < 1e-4 {
        return format!("{x:.1e}");
    }
    let decimals = (2.0 - x.abs().log10().floor()).clamp(0.0, 6.0) as usize;
    let s = fixed(x, decimals);
    match s.contains('.') {
        true => s.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => s,
    }
}

/// A large number with its unit prefix: `4.09 G`.
pub(super) fn scaled(x: f64) -> String {
    si(x.max(0.0).round() as u64)
}

/// Divisor and prefix that suit a number of this size.
pub(super) fn scale_of(x: f64) -> (f64, &'static str) {
    match x.abs() {
        a if a >= 1e9 => (1e9, "G"),
        a if a >= 1e6 => (1e6, "M"),
        a if a >= 1e3 => (1e3, "K"),
        _ => (1.0, ""),
    }
}

/// A share as a percentage.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(fixed(-1234567.891, 1), "−1,234,567.9");
        assert_eq!(fixed(-0.0, 0), "0");
        assert_eq!(
            (short(0.02), short(123456.0), short(1.5)),
            ("0.02".into(), "123,456".into(), "1.5".into())
        );
        assert_eq!((scaled(4_087_136_256.0), scaled(512.0)), ("4.09 G".into(), "512".into()));
    }
}
