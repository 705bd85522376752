//! Scatter charts: what a net scores against what it costs.

use super::axis::{Along, Axis, extent};
use super::chart::draw_grid;
use super::labels::{Area, Labels, Reference};
use super::svg::{Layouts, Size, Svg, num};

/// Past so many points the whiskers would only be a grey mass.
const MAX_WHISKERS: usize = 400;
/// Past so many points a page becomes heavy; those drawn are taken evenly.
pub(super) const MAX_POINTS: usize = 1500;
/// What lies within the axes also where the page's script zooms.
const CLIPPED: &str = "class=\"clip\"";

/// One net.
pub(super) struct Point {
    /// What it costs.
    pub(super) x: f64,
    /// What it scores.
    pub(super) y: f64,
    /// Interval that holds the score with 95 % confidence.
    pub(super) ci95: Option<(f64, f64)>,
    /// Shown when pointed at.
    pub(super) title: String,
    /// Class that gives the colour.
    pub(super) class: &'static str,
    /// Marked points are drawn larger, on top, with their label where there is room.
    pub(super) mark: Option<String>,
}

/// A range of x that belongs together.
pub(super) struct Band {
    /// What it is called.
    pub(super) name: String,
    /// From here …
    pub(super) lo: f64,
    /// … to here.
    pub(super) hi: f64,
}

/// A chart of nets.
pub(super) struct Scatter<'a> {
    /// What a screen reader says.
    pub(super) label: &'a str,
    /// How large it is.
    pub(super) size: Size,
    /// What lies along the x axis.
    pub(super) x_label: &'a str,
    /// The nets.
    pub(super) points: &'a [Point],
    /// Ranges of x that belong together.
    pub(super) bands: &'a [Band],
    /// Whether to join the points that no cheaper one beats.
    pub(super) frontier: bool,
    /// Dashed lines to compare with.
    pub(super) references: &'a [Reference],
}

impl Scatter<'_> {
    /// The chart, or `None` where there is nothing to draw.
    pub(super) fn draw(&self) -> Option<Layouts> {
        self.size.layouts(|size| self.draw_at(size))
    }

    fn draw_at(&self, size: (f64, f64)) -> Option<String> {
        let shown = self.shown(size.0);
        let (x, y) = self.axes(&shown, size)?;
        let mut svg = Svg::with(size, self.label, &zoomable(&x, &y));
        self.draw_bands(&mut svg, &x, &y);
        draw_grid(&mut svg, &x, &y, self.x_label);
        svg.open(CLIPPED);
        if self.frontier {
            draw_frontier(&mut svg, &shown, &x, &y);
        }
        let (marked, plain): (Vec<&Point>, Vec<&Point>) =
            shown.iter().partition(|p| p.mark.is_some());
        let dot = |p: &&Point, r: f64| -> Area {
            let (cx, cy) = (x.at(p.x), y.at(p.y));
            (cx - r, cy - r, cx + r, cy + r)
        };
        let mut labels = Labels::new(&x, &y, marked.iter().map(|p| dot(p, 6.0)).collect());
        labels.draw_references(&mut svg, self.references);
        let r = if plain.len() > 400 && self.size != Size::MAP { 2.2 } else { 3.2 };
        for p in &plain {
            if plain.len() <= MAX_WHISKERS {
                draw_whisker(&mut svg, p, &x, &y, "whisker");
            }
            svg.mark(&format!("dot soft {}", p.class), (x.at(p.x), y.at(p.y)), r, Some(&p.title));
        }
        for p in &marked {
            draw_whisker(&mut svg, p, &x, &y, "whisker strong");
            svg.mark(&format!("dot ring {}", p.class), (x.at(p.x), y.at(p.y)), 5.5, Some(&p.title));
        }
        let others: Vec<Area> = plain.iter().map(|p| dot(p, 3.0)).collect();
        for p in &marked {
            if let Some(text) = p.mark.as_deref().filter(|text| !text.is_empty()) {
                labels.draw_beside(&mut svg, (x.at(p.x), y.at(p.y)), text, &others);
            }
        }
        svg.close();
        Some(svg.finish())
    }

    fn draw_bands(&self, svg: &mut Svg, x: &Axis, y: &Axis) {
        let (bottom, top) = y.span();
        svg.open(CLIPPED);
        for (i, band) in self.bands.iter().enumerate() {
            let class = if i % 2 == 0 { "band budget" } else { "band strip" };
            let (a, b) = (x.at(band.lo), x.at(band.hi));
            svg.rect(class, (a, top), (b - a, bottom - top), 0.0, Some(&band.name));
        }
        svg.close();
    }

    /// The points to draw: all with finite places, or an even choice of them, fewer in a small chart,
    /// and all marked.
    fn shown(&self, width: f64) -> Vec<&Point> {
        let finite = |p: &&Point| p.x.is_finite() && p.y.is_finite();
        let most = if width < 500.0 { MAX_POINTS / 3 } else { MAX_POINTS };
        let every = self.points.len().div_ceil(most).max(1);
        let numbered = self.points.iter().enumerate();
        let chosen = numbered.filter(|(i, p)| i % every == 0 || p.mark.is_some());
        chosen.map(|(_, p)| p).filter(finite).collect()
    }

    fn axes(&self, shown: &[&Point], size: (f64, f64)) -> Option<(Axis, Axis)> {
        let (lo, hi) = extent(shown.iter().map(|p| p.x))?;
        let log = lo > 0.0 && hi / lo > 6.0;
        let pad = if log { (lo * 0.07, hi * 0.07) } else { ((hi - lo) * 0.04, (hi - lo) * 0.04) };
        let whiskers = shown.len() <= MAX_WHISKERS;
        let heights = shown.iter().flat_map(|p| {
            let ci = p.ci95.filter(|_| whiskers || p.mark.is_some());
            let (a, b) = ci.unwrap_or((p.y, p.y));
            [p.y, a, b]
        });
        let references = self.references.iter().map(|r| r.0);
        let (y_lo, y_hi) = extent(heights.chain(references))?;
        let (top, bottom) = (14.0, size.1 - 36.0);
        let y = Axis::rounded((y_lo, y_hi), (bottom, top), Along::Y);
        let left = y.label_width() + 12.0;
        let right = size.0 - 14.0;
        let x = Axis::new((lo - pad.0, hi + pad.1), log, (left, right), Along::X);
        Some((x, y))
    }
}

/// Where the axes are and what they span: what the page's script needs to zoom.
fn zoomable(x: &Axis, y: &Axis) -> String {
    let ((left, right), (bottom, top)) = (x.span(), y.span());
    let [left, right, top, bottom] = [left, right, top, bottom].map(num);
    format!(
        " data-plot=\"{left} {right} {top} {bottom}\" data-x=\"{}\" data-y=\"{}\"",
        x.scale(),
        y.scale()
    )
}

fn draw_whisker(svg: &mut Svg, p: &Point, x: &Axis, y: &Axis, class: &str) {
    let Some((lo, hi)) = p.ci95.filter(|c| c.0.is_finite() && c.1.is_finite()) else { return };
    let at = x.at(p.x);
    svg.line(&format!("{class} {}", p.class), (at, y.at(lo)), (at, y.at(hi)));
}

/// Steps through the points that no cheaper one beats.
fn draw_frontier(svg: &mut Svg, shown: &[&Point], x: &Axis, y: &Axis) {
    let mut sorted: Vec<&&Point> = shown.iter().collect();
    sorted.sort_by(|a, b| a.x.total_cmp(&b.x).then(b.y.total_cmp(&a.y)));
    let (mut best, mut d) = (f64::NEG_INFINITY, String::new());
    for p in sorted {
        if p.y <= best {
            continue;
        }
        let (px, py) = (x.at(p.x), y.at(p.y));
        d += &match d.is_empty() {
            true => format!("M{px:.1} {py:.1}"),
            false => format!("H{px:.1}V{py:.1}"),
        };
        best = p.y;
    }
    if !d.is_empty() {
        svg.path("frontier", &(d + &format!("H{:.1}", x.span().1)), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::labels::{areas, expect_apart};

    fn point(x: f64, y: f64, mark: Option<&str>) -> Point {
        let ci95 = Some((y - 0.1, y + 0.1));
        let mark = mark.map(str::to_owned);
        Point { x, y, ci95, title: "net".into(), class: "c1", mark }
    }

    fn draw(points: &[Point]) -> Option<String> {
        let bands = [Band { name: "1..2".into(), lo: 1.0, hi: 2.0 }];
        let (label, x_label) = ("score", "GMACs");
        Scatter {
            label,
            size: Size::WIDE,
            x_label,
            points,
            bands: &bands,
            frontier: true,
            references: &[],
        }
        .draw_at((600.0, 300.0))
    }

    #[test]
    fn nothing_one_and_very_many() {
        assert!(draw(&[]).is_none() && draw(&[point(1.0, f64::NAN, None)]).is_none());
        assert!(draw(&[point(1.0, 0.5, Some("best"))]).unwrap().contains(">best<"));
        let many: Vec<Point> = (0..85_293).map(|i| point(f64::from(i), 1.0, None)).collect();
        let svg = draw(&many).unwrap();
        assert!(svg.matches("<circle").count() <= MAX_POINTS && svg.len() < 600_000);
    }

    #[test]
    fn labels_in_a_heap_do_not_touch() {
        let text = "s32-w48.96.192.512";
        let heap: Vec<Point> =
            (0..60).map(|i| point(2.0 + f64::from(i) * 0.1, 0.5, Some(text))).collect();
        let svg = draw(&heap).unwrap();
        assert!((3..60).contains(&areas(&svg).len()), "{} labels", areas(&svg).len());
        expect_apart(&svg);
    }

    #[test]
    fn names_of_lines_touch_neither_each_other_nor_labels() {
        let text = "kNN, k = 20";
        let points: Vec<Point> =
            (0..12).map(|i| point(f64::from(i), 0.4 + 0.002 * f64::from(i), Some(text))).collect();
        let names = ["raw pixels", "colour histogram", "guessing", "the same as guessing"];
        let values = [0.41, 0.412, 0.405, 0.405];
        let references: Vec<Reference> = values.into_iter().zip(names.map(str::to_owned)).collect();
        for size in [Size::WIDE, Size::HALF] {
            let chart = Scatter {
                label: "accuracy",
                size,
                x_label: "MACs",
                points: &points,
                bands: &[],
                frontier: false,
                references: &references,
            };
            for (width, height) in size.all() {
                let svg = chart.draw_at((width, height)).unwrap();
                for name in ["raw pixels", "colour histogram", "guessing, the same as guessing"] {
                    assert!(svg.contains(&format!(">{name}<")), "no {name} at {width}");
                }
                expect_apart(&svg);
            }
        }
    }
}
