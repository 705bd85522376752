//! Bars beside each other: one number under several names, with its interval and a baseline.

use super::svg::{Anchor, Layouts, Size, Svg, text_width};

/// Height of a row: its name, and the bar below.
pub(super) const ROW: f64 = 42.0;
/// Font size of names, in pixels.
const FONT: f64 = 12.0;
const BAR: f64 = 12.0;
/// Room for a value at the right end.
const VALUE: f64 = 62.0;

/// One bar.
pub(super) struct Bar {
    /// What was measured.
    pub(super) name: String,
    /// Its share, in per cent.
    pub(super) value: f64,
    /// The 95 % interval.
    pub(super) ci95: Option<(f64, f64)>,
    /// Class that gives the colour.
    pub(super) class: &'static str,
}

/// A chart of bars from 0.
pub(super) struct Bars<'a> {
    /// What a screen reader says.
    pub(super) label: &'a str,
    /// The bars, from above.
    pub(super) bars: &'a [Bar],
    /// A dashed line to compare with.
    pub(super) baseline: Option<f64>,
}

impl Bars<'_> {
    /// The chart, or `None` where there is nothing to draw.
    pub(super) fn draw(&self) -> Option<Layouts> {
        let rows = self.bars.len();
        (rows > 0).then(|| Size::of_rows(rows, ROW).layouts(|size| self.draw_at(size)))?
    }

    fn draw_at(&self, size: (f64, f64)) -> Option<String> {
        let ends = self.bars.iter().flat_map(|bar| [bar.value, bar.ci95.map_or(0.0, |ci| ci.1)]);
        let most = ends.chain(self.baseline).filter(|v| v.is_finite()).fold(0.0, f64::max);
        if most <= 0.0 {
            return None;
        }
        let right = size.0 - VALUE;
        let at = |value: f64| 1.0 + (right - 1.0) * (value / most).clamp(0.0, 1.0);
        let mut svg = Svg::new(size, self.label);
        for (i, bar) in self.bars.iter().enumerate() {
            let top = i as f64 * ROW;
            svg.text("tick", (1.0, top + FONT + 2.0), Anchor::Start, &fitting(&bar.name, size.0));
            let y = top + FONT + 8.0;
            let value = format!("{:.1} %", bar.value);
            let title = match bar.ci95 {
                Some((lo, hi)) => format!("{}\n{value} ({lo:.1} to {hi:.1})", bar.name),
                None => format!("{}\n{value}", bar.name),
            };
            let class = format!("dot {}", bar.class);
            svg.rect(&class, (1.0, y), (at(bar.value) - 1.0, BAR), 2.0, Some(&title));
            let mut end = at(bar.value);
            if let Some((lo, hi)) = bar.ci95 {
                let middle = y + BAR / 2.0;
                for (from, to) in [
                    ((at(lo), middle), (at(hi), middle)),
                    ((at(lo), y + 2.0), (at(lo), y + BAR - 2.0)),
                    ((at(hi), y + 2.0), (at(hi), y + BAR - 2.0)),
                ] {
                    svg.line("ref whole", from, to);
                }
                end = end.max(at(hi));
            }
            svg.text("note", (end + 6.0, y + BAR - 2.0), Anchor::Start, &value);
        }
        if let Some(value) = self.baseline {
            svg.line("ref", (at(value), 0.0), (at(value), size.1));
        }
        Some(svg.finish())
    }
}

/// As much of a name as fits.
fn fitting(name: &str, width: f64) -> String {
    let mut text = name.to_owned();
    while text_width(&text, FONT) > width && text.pop().is_some() {}
    if text.len() < name.len() {
        text.pop();
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_values() {
        let bar = |value: f64| Bar {
            name: "a name that is longer than any telephone is wide, ".repeat(4),
            value,
            ci95: Some((value - 1.0, value + 1.0)),
            class: "c1",
        };
        let bars = [bar(20.0), bar(40.0)];
        let chart = Bars { label: "accuracy", bars: &bars, baseline: Some(20.0) };
        let Layouts { wide, narrow } = chart.draw().unwrap();
        assert_eq!((wide.matches("<rect").count(), narrow.matches("…<").count()), (2, 2));
        assert!(wide.contains("40.0 %") && !wide.contains("NaN"));
        assert!(Bars { bars: &[], ..chart }.draw().is_none());
        let nothing = [bar(f64::NAN)];
        assert!(Bars { label: "", bars: &nothing[..], baseline: None }.draw().is_none());
    }
}
