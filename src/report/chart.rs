//! Line charts over the steps of a run.

use super::axis::{Along, Axis, TICK_FONT, extent};
use super::labels::{Labels, Reference};
use super::numbers;
use super::series::{Bin, smooth};
use super::svg::{Anchor, Layouts, Size, Svg, polyline, text_width};

/// Strips that show values when pointed at.
const MAX_STRIPS: usize = 90;
/// Least distance of two labels' baselines, in pixels.
const LABEL_GAP: f64 = 14.0;

/// One line.
pub(super) struct Line {
    /// What it is; shown where a chart has several.
    pub(super) name: String,
    /// Class that gives the colour.
    pub(super) class: &'static str,
    /// Its values.
    pub(super) bins: Vec<Bin>,
}

/// A chart of one or more lines.
pub(super) struct LineChart<'a> {
    /// What a screen reader says.
    pub(super) label: &'a str,
    /// How large it is.
    pub(super) size: Size,
    /// What lies along the x axis.
    pub(super) x_label: &'a str,
    /// The lines.
    pub(super) lines: Vec<Line>,
    /// Dashed horizontal lines to compare with.
    pub(super) references: Vec<Reference>,
    /// Whether the y axis starts at 0.
    pub(super) from_zero: bool,
}

/// Where the axes are.
struct Frame {
    x: Axis,
    y: Axis,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl LineChart<'_> {
    /// The chart, or `None` where there is no finite value to draw.
    pub(super) fn draw(&self) -> Option<Layouts> {
        self.size.layouts(|size| self.draw_at(size))
    }

    fn draw_at(&self, size: (f64, f64)) -> Option<String> {
        let frame = self.frame(size)?;
        let mut svg = Svg::new(size, self.label);
        draw_grid(&mut svg, &frame.x, &frame.y, self.x_label);
        for line in &self.lines {
            draw_line(&mut svg, &frame, line);
        }
        Labels::new(&frame.x, &frame.y, Vec::new()).draw_references(&mut svg, &self.references);
        if self.lines.len() > 1 {
            self.draw_names(&mut svg, &frame);
        }
        self.draw_strips(&mut svg, &frame);
        Some(svg.finish())
    }

    fn frame(&self, size: (f64, f64)) -> Option<Frame> {
        let bins = || self.lines.iter().flat_map(|l| &l.bins);
        let (x_lo, x_hi) = extent(bins().map(|b| b.x))?;
        let means = extent(bins().map(|b| b.mean))?;
        let all = extent(bins().flat_map(|b| [b.min, b.max]))?;
        // A single wild step must not flatten the rest: then the band runs out of the chart.
        let tame = all.1 - all.0 <= 3.0 * (means.1 - means.0).max(means.1.abs());
        let (mut lo, mut hi) = if tame { all } else { means };
        for (value, _) in &self.references {
            (lo, hi) = (lo.min(*value), hi.max(*value));
        }
        if self.from_zero {
            lo = lo.min(0.0);
        }
        let (top, bottom) = (10.0, size.1 - 36.0);
        let y = Axis::rounded((lo, hi), (bottom, top), Along::Y);
        let names = self.lines.iter().map(|l| text_width(&l.name, 12.0)).fold(0.0, f64::max);
        let left = y.label_width() + 12.0;
        let right = size.0 - if self.lines.len() > 1 { names + 16.0 } else { 14.0 };
        let mut x = Axis::new((x_lo, x_hi), false, (left, right), Along::X);
        x.keep_whole_ticks();
        Some(Frame { x, y, left, right, top, bottom })
    }

    /// Each line's name at its right end, moved so that none touch.
    fn draw_names(&self, svg: &mut Svg, frame: &Frame) {
        let mut names: Vec<(f64, &Line)> = self
            .lines
            .iter()
            .filter_map(|l| {
                let last = smooth(&l.bins).into_iter().rev().find(|p| p.1.is_finite())?;
                Some((frame.y.at(last.1) + 4.0, l))
            })
            .collect();
        names.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut places: Vec<f64> = names.iter().map(|n| n.0).collect();
        spread(&mut places, frame.top + 8.0, frame.bottom);
        for ((_, line), y) in names.iter().zip(places) {
            let class = format!("name halo {}", line.class);
            svg.text(&class, (frame.right + 7.0, y), Anchor::Start, &line.name);
        }
    }

    /// Invisible strips that say the values where one points.
    fn draw_strips(&self, svg: &mut Svg, frame: &Frame) {
        let most = self.lines.iter().map(|l| l.bins.len()).max().unwrap_or(0);
        let n = most.min(MAX_STRIPS);
        let width = (frame.right - frame.left) / n.max(1) as f64;
        for i in 0..n {
            let left = frame.left + i as f64 * width;
            let centre = left + width / 2.0;
            let nearest = |l: &Line| {
                let distance = |b: &&Bin| (frame.x.at(b.x) - centre).abs();
                l.bins.iter().min_by(|a, b| distance(a).total_cmp(&distance(b))).copied()
            };
            let mut text = String::new();
            for line in &self.lines {
                let Some(b) = nearest(line) else { continue };
                if text.is_empty() {
                    text = format!("{} {}", self.x_label, numbers::count(b.x.max(0.0) as u64));
                }
                text += &format!("\n{} {}", line.name, describe(&b));
            }
            let (at, size) = ((left, frame.top), (width, frame.bottom - frame.top));
            svg.rect("strip", at, size, 0.0, Some(&text));
        }
    }
}

fn describe(b: &Bin) -> String {
    let mean = numbers::short(b.mean);
    match b.min == b.max || !b.mean.is_finite() {
        true => mean,
        false => format!("{mean} ({} to {})", numbers::short(b.min), numbers::short(b.max)),
    }
}

/// Horizontal grid lines, tick labels and the name of the x axis.
pub(super) fn draw_grid(svg: &mut Svg, x: &Axis, y: &Axis, x_label: &str) {
    let ((left, right), (bottom, _)) = (x.span(), y.span());
    svg.open("data-axis=\"y\"");
    for (value, label) in &y.ticks {
        let at = y.at(*value);
        svg.line("grid", (left, at), (right, at));
        svg.text("tick", (left - 6.0, at + 4.0), Anchor::End, label);
    }
    svg.close();
    svg.line("axis", (left, bottom), (right, bottom));
    svg.open("data-axis=\"x\"");
    for (value, label) in &x.ticks {
        let at = x.at(*value);
        svg.line("axis", (at, bottom), (at, bottom + 4.0));
        let half = text_width(label, TICK_FONT) / 2.0;
        let anchor = match at + half > right + 12.0 {
            true => Anchor::End,
            false => Anchor::Middle,
        };
        svg.text("tick", (at, bottom + 16.0), anchor, label);
    }
    svg.close();
    svg.text("tick", ((left + right) / 2.0, bottom + 31.0), Anchor::Middle, x_label);
}

fn draw_line(svg: &mut Svg, frame: &Frame, line: &Line) {
    let class = |kind: &str| format!("{kind} {}", line.class);
    let at = |x: f64, y: f64| y.is_finite().then(|| (frame.x.at(x), frame.y.at(y)));
    for run in line.bins.split(|b| !b.mean.is_finite()).filter(|r| r.len() > 1) {
        let there = run.iter().map(|b| at(b.x, b.max));
        let back = run.iter().rev().map(|b| at(b.x, b.min));
        let outline: Vec<_> = there.chain(back).collect();
        svg.path(&class("area"), &(polyline(&outline) + "Z"), None);
    }
    let raw: Vec<_> = line.bins.iter().map(|b| at(b.x, b.mean)).collect();
    let smoothed: Vec<_> = smooth(&line.bins).into_iter().map(|(x, y)| at(x, y)).collect();
    if raw != smoothed {
        svg.path(&class("faint"), &polyline(&raw), None);
    }
    svg.path(&class("line"), &polyline(&smoothed), None);
    if let [Some(only)] = raw[..] {
        svg.circle(&class("dot"), only, 3.5, None);
    }
}

/// Moves ascending positions apart to [`LABEL_GAP`], within `top..=bottom` where they fit.
fn spread(places: &mut [f64], top: f64, bottom: f64) {
    let mut least = top;
    for p in places.iter_mut() {
        *p = p.max(least);
        least = *p + LABEL_GAP;
    }
    let mut most = bottom;
    for p in places.iter_mut().rev() {
        *p = p.min(most);
        most = *p - LABEL_GAP;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::series::{MAX_BINS, bins};

    fn chart(points: &[(f64, f64)]) -> Option<String> {
        let line =
            |name: &str, class| Line { name: name.into(), class, bins: bins(points, MAX_BINS) };
        let chart = LineChart {
            label: "loss",
            size: Size::HALF,
            x_label: "step",
            lines: vec![line("large", "c1"), line("small", "c2")],
            references: vec![(8.3, "chance".into())],
            from_zero: true,
        };
        chart.draw_at((600.0, 240.0))
    }

    #[test]
    fn any_series_can_be_drawn() {
        assert!(chart(&[]).is_none() && chart(&[(1.0, f64::NAN)]).is_none());
        let long: Vec<(f64, f64)> =
            (0..100_000).map(|i| (f64::from(i), f64::from(i % 7))).collect();
        for points in [&[(0.0, 1.0)][..], &[(0.0, 1.0), (1.0, f64::INFINITY), (2.0, 1e30)], &long] {
            let svg = chart(points).unwrap();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            assert!(svg.len() < 120_000, "{} bytes", svg.len());
        }
    }

    #[test]
    fn names_do_not_touch() {
        let mut places = [50.0, 51.0, 52.0, 198.0, 199.0];
        spread(&mut places, 10.0, 200.0);
        assert!(places.windows(2).all(|w| w[1] - w[0] >= LABEL_GAP - 1e-9), "{places:?}");
        assert!(places[0] >= 10.0 && places[4] <= 200.0);
    }
}
