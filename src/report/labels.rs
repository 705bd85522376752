//! Where a chart's labels go so that none touches another.

use super::axis::Axis;
use super::svg::{Anchor, Svg, text_width};

/// Font size of points' labels, in pixels.
pub(super) const LABEL_FONT: f64 = 12.0;
/// Font size of the names of dashed lines, in pixels.
const NOTE_FONT: f64 = 11.5;
/// How much wider bold letters are.
const BOLD: f64 = 1.14;
/// How far letters reach below their baseline, in pixels.
const BELOW: f64 = 3.0;

/// A rectangle that a label or a dot takes: left, top, right, bottom.
pub(super) type Area = (f64, f64, f64, f64);

/// Whether two areas have a point in common.
pub(super) fn touch(a: Area, b: Area) -> bool {
    a.0 < b.2 && b.0 < a.2 && a.1 < b.3 && b.1 < a.3
}

/// A dashed line to compare with: its value and its name.
pub(super) type Reference = (f64, String);

/// Labels of one chart.
pub(super) struct Labels<'a> {
    x: &'a Axis,
    y: &'a Axis,
    taken: Vec<Area>,
}

impl<'a> Labels<'a> {
    /// None yet; `dots` are not to be covered.
    pub(super) fn new(x: &'a Axis, y: &'a Axis, dots: Vec<Area>) -> Self {
        Self { x, y, taken: dots }
    }

    /// Whether a label may lie there as far as the chart's edges go.
    fn is_inside(&self, a: Area) -> bool {
        let ((left, right), (bottom, top)) = (self.x.span(), self.y.span());
        a.0 >= left && a.2 <= right + 14.0 && a.1 >= top - 14.0 && a.3 <= bottom
    }

    fn is_free(&self, a: Area) -> bool {
        !self.taken.iter().any(|t| touch(*t, a))
    }

    /// Draws dashed lines across the chart with their names above or below them, at the right end
    /// or, where something else is there, further left. Lines of one height share a name.
    pub(super) fn draw_references(&mut self, svg: &mut Svg, references: &[Reference]) {
        let ((left, right), (bottom, top)) = (self.x.span(), self.y.span());
        let mut lines: Vec<(f64, String)> = Vec::new();
        for (value, name) in references {
            let at = self.y.at(*value);
            match lines.iter_mut().find(|(other, _)| (other - at).abs() < 0.5) {
                Some((_, names)) => *names = format!("{names}, {name}"),
                None => lines.push((at, name.clone())),
            }
        }
        lines.iter().for_each(|(at, _)| svg.line("ref", (left, *at), (right, *at)));
        let dots = self.taken.len();
        for (at, name) in &lines {
            let width = text_width(name, NOTE_FONT);
            let area = |end: f64, baseline: f64| -> Area {
                (end - width, baseline - NOTE_FONT, end, baseline + BELOW)
            };
            let steps = ((right - left - width) / 8.0).max(0.0) as usize;
            let ends = (0..=steps).map(|i| right - 2.0 - 8.0 * i as f64);
            let heights = [at - 5.0, at + 13.0];
            let places: Vec<Area> = ends
                .flat_map(|end| heights.map(|baseline| area(end, baseline)))
                .filter(|a| a.1 >= top - 14.0 && a.3 <= bottom.max(at + BELOW))
                .filter(|a| !self.taken[dots..].iter().any(|t| touch(*t, *a)))
                .collect();
            // Rather a dot is covered, or a line crossed, than a name missing.
            let dots = |a: &Area| self.taken[..dots].iter().filter(|t| touch(**t, *a)).count();
            let crossed = |a: &Area| {
                let within = |other: &f64| a.1 < *other && *other < a.3;
                lines.iter().filter(|(other, _)| other != at && within(other)).count()
            };
            if let Some(a) = places.into_iter().min_by_key(|a| (dots(a), crossed(a))) {
                svg.text("note halo", (a.2, a.3 - BELOW), Anchor::End, name);
                self.taken.push(a);
            }
        }
    }

    /// Draws a point's label beside it, where it touches nothing and covers few of `others`; a
    /// label without such a place is left out (its point still says it when pointed at).
    pub(super) fn draw_beside(
        &mut self,
        svg: &mut Svg,
        (cx, cy): (f64, f64),
        text: &str,
        others: &[Area],
    ) {
        let width = text_width(text, LABEL_FONT) * BOLD;
        let area = |(dx, dy): (f64, f64)| -> Area {
            let (l, baseline) = (cx + dx, cy + dy);
            (l, baseline - LABEL_FONT, l + width, baseline + BELOW)
        };
        let free = |a: &Area| self.is_inside(*a) && self.is_free(*a);
        let covered = |a: &Area| others.iter().filter(|o| touch(**o, *a)).count();
        let best = places(width).into_iter().map(area).filter(free).min_by_key(covered);
        if let Some(a) = best {
            svg.text_beside("name halo", (a.0, a.3 - BELOW), (cx, cy), text);
            self.taken.push(a);
        }
    }
}

/// Places of a label relative to its point, the best first.
fn places(w: f64) -> [(f64, f64); 12] {
    let centred = -w / 2.0;
    [
        (centred, -11.0),
        (10.0, 4.0),
        (-w - 10.0, 4.0),
        (7.0, -9.0),
        (-w - 7.0, -9.0),
        (centred, 22.0),
        (7.0, 18.0),
        (-w - 7.0, 18.0),
        (centred, -27.0),
        (-w, -27.0),
        (0.0, -27.0),
        (centred, 38.0),
    ]
}

/// Where the labels of a drawing are, both points' and lines'.
#[cfg(test)]
pub(super) fn areas(svg: &str) -> Vec<(String, Area)> {
    let number = |s: &str| s.split('"').next().unwrap().parse::<f64>().unwrap();
    let of = |class: &str, font: f64, from_end: bool| -> Vec<(String, Area)> {
        let tag = format!("<text class=\"{class} halo\" x=\"");
        let label = |part: &str| {
            let (x, rest) = part.split_once("\" y=\"").unwrap();
            let (x, y) = (number(x), number(rest));
            let text = rest.split('>').nth(1).unwrap().split('<').next().unwrap();
            let w = text_width(text, font);
            let left = if from_end { x - w } else { x };
            (text.to_owned(), (left, y - font, left + w, y))
        };
        svg.split(&tag).skip(1).map(label).collect()
    };
    [of("name", LABEL_FONT, false), of("note", NOTE_FONT, true)].concat()
}

/// Fails where two labels of a drawing touch.
#[cfg(test)]
pub(super) fn expect_apart(svg: &str) {
    let all = areas(svg);
    for (i, (text, a)) in all.iter().enumerate() {
        let other = all[..i].iter().find(|(_, b)| touch(*a, *b));
        assert!(other.is_none(), "{text:?} touches {other:?}");
    }
}
