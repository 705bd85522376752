//! Scatter charts: what a net scores against what it costs.

use super::axis::{Along, Axis, extent};
use super::chart::{draw_grid, draw_reference};
use super::svg::{Anchor, Svg, text_width};

const LABEL_FONT: f64 = 12.0;
/// How much wider bold letters are.
const BOLD: f64 = 1.14;
/// How far letters reach below their baseline, in pixels.
const BELOW: f64 = 3.0;
/// Past so many points the whiskers would only be a grey mass.
const MAX_WHISKERS: usize = 400;
/// Past so many points a page becomes heavy; those drawn are taken evenly.
pub(super) const MAX_POINTS: usize = 3000;

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
    /// Natural size in pixels.
    pub(super) size: (f64, f64),
    /// What lies along the x axis.
    pub(super) x_label: &'a str,
    /// The nets.
    pub(super) points: &'a [Point],
    /// Ranges of x that belong together.
    pub(super) bands: &'a [Band],
    /// Whether to join the points that no cheaper one beats.
    pub(super) frontier: bool,
    /// Dashed lines to compare with.
    pub(super) references: &'a [(f64, String)],
}

impl Scatter<'_> {
    /// The chart as an SVG element, or `None` where there is nothing to draw.
    pub(super) fn draw(&self) -> Option<String> {
        let shown = self.shown();
        let (x, y) = self.axes(&shown)?;
        let mut svg = Svg::new(self.size.0, self.size.1, self.label);
        let (bottom, top) = y.span();
        for (i, band) in self.bands.iter().enumerate() {
            let class = if i % 2 == 0 { "budget" } else { "strip" };
            let (a, b) = (x.at(band.lo), x.at(band.hi));
            svg.rect(class, (a, top), (b - a, bottom - top), 0.0, Some(&band.name));
        }
        draw_grid(&mut svg, &x, &y, self.x_label);
        if self.frontier {
            draw_frontier(&mut svg, &shown, &x, &y);
        }
        for (value, label) in self.references {
            draw_reference(&mut svg, (&x, &y), *value, label);
        }
        let (marked, plain): (Vec<&Point>, Vec<&Point>) =
            shown.iter().partition(|p| p.mark.is_some());
        let r = if plain.len() > 400 { 2.2 } else { 3.2 };
        for p in &plain {
            if plain.len() <= MAX_WHISKERS {
                draw_whisker(&mut svg, p, &x, &y, "whisker");
            }
            let class = format!("dot soft {}", p.class);
            svg.circle(&class, (x.at(p.x), y.at(p.y)), r, Some(&p.title));
        }
        for p in &marked {
            draw_whisker(&mut svg, p, &x, &y, "whisker strong");
            let class = format!("dot ring {}", p.class);
            svg.circle(&class, (x.at(p.x), y.at(p.y)), 5.5, Some(&p.title));
        }
        draw_labels(&mut svg, &marked, &plain, &x, &y);
        Some(svg.finish())
    }

    /// The points to draw: all with finite places, or an even choice of them and all marked.
    fn shown(&self) -> Vec<&Point> {
        let finite = |p: &&Point| p.x.is_finite() && p.y.is_finite();
        let every = self.points.len().div_ceil(MAX_POINTS).max(1);
        let numbered = self.points.iter().enumerate();
        let chosen = numbered.filter(|(i, p)| i % every == 0 || p.mark.is_some());
        chosen.map(|(_, p)| p).filter(finite).collect()
    }

    fn axes(&self, shown: &[&Point]) -> Option<(Axis, Axis)> {
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
        let (top, bottom) = (14.0, self.size.1 - 36.0);
        let y = Axis::rounded((y_lo, y_hi), (bottom, top), Along::Y);
        let left = y.label_width() + 12.0;
        let right = self.size.0 - 14.0;
        let x = Axis::new((lo - pad.0, hi + pad.1), log, (left, right), Along::X);
        Some((x, y))
    }
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

/// A rectangle that a label or a dot takes: left, top, right, bottom.
type Area = (f64, f64, f64, f64);

fn touch(a: Area, b: Area) -> bool {
    a.0 < b.2 && b.0 < a.2 && a.1 < b.3 && b.1 < a.3
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

/// Labels beside their points, where they touch no label and no marked point, and few others;
/// a label without such a place is left out (its point still says it when pointed at).
fn draw_labels(svg: &mut Svg, marked: &[&Point], plain: &[&Point], x: &Axis, y: &Axis) {
    let dot = |p: &&Point, r: f64| -> Area {
        let (cx, cy) = (x.at(p.x), y.at(p.y));
        (cx - r, cy - r, cx + r, cy + r)
    };
    let others: Vec<Area> = plain.iter().map(|p| dot(p, 3.0)).collect();
    let mut taken: Vec<Area> = marked.iter().map(|p| dot(p, 6.0)).collect();
    let ((left, right), (bottom, top)) = (x.span(), y.span());
    for p in marked {
        let Some(text) = p.mark.as_deref().filter(|t| !t.is_empty()) else { continue };
        let (cx, cy, w) = (x.at(p.x), y.at(p.y), text_width(text, LABEL_FONT) * BOLD);
        let area = |(dx, dy): (f64, f64)| -> Area {
            let (l, baseline) = (cx + dx, cy + dy);
            (l, baseline - LABEL_FONT, l + w, baseline + BELOW)
        };
        let free = |a: &Area| {
            let inside = a.0 >= left && a.2 <= right + 14.0 && a.1 >= top - 14.0 && a.3 <= bottom;
            inside && !taken.iter().any(|t| touch(*t, *a))
        };
        let covered = |a: &Area| others.iter().filter(|o| touch(**o, *a)).count();
        let best = places(w).into_iter().map(area).filter(free).min_by_key(covered);
        if let Some(a) = best {
            svg.text("name halo", (a.0, a.3 - BELOW), Anchor::Start, text);
            taken.push(a);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            size: (600.0, 300.0),
            x_label,
            points,
            bands: &bands,
            frontier: true,
            references: &[],
        }
        .draw()
    }

    #[test]
    fn nothing_one_and_very_many() {
        assert!(draw(&[]).is_none() && draw(&[point(1.0, f64::NAN, None)]).is_none());
        assert!(draw(&[point(1.0, 0.5, Some("best"))]).unwrap().contains(">best<"));
        let many: Vec<Point> = (0..85_293).map(|i| point(f64::from(i), 1.0, None)).collect();
        let svg = draw(&many).unwrap();
        assert!(svg.matches("<circle").count() <= MAX_POINTS && svg.len() < 600_000);
    }

    /// Where the labels of a drawing are.
    fn label_areas(svg: &str, text: &str) -> Vec<Area> {
        let number = |s: &str| s.split('"').next().unwrap().parse::<f64>().unwrap();
        let w = text_width(text, LABEL_FONT);
        let label = |part: &str| {
            let (x, y) = part.split_once("\" y=\"").unwrap();
            (number(x), number(y))
        };
        let all = svg.split("<text class=\"name halo\" x=\"").skip(1).map(label);
        all.map(|(x, y)| (x, y - LABEL_FONT, x + w, y)).collect()
    }

    #[test]
    fn labels_in_a_heap_do_not_touch() {
        let text = "s32-w48.96.192.512";
        let heap: Vec<Point> =
            (0..60).map(|i| point(2.0 + f64::from(i) * 0.1, 0.5, Some(text))).collect();
        let areas = label_areas(&draw(&heap).unwrap(), text);
        assert!((3..60).contains(&areas.len()), "{} labels", areas.len());
        for (i, a) in areas.iter().enumerate() {
            assert!(areas[..i].iter().all(|b| !touch(*a, *b)));
        }
    }
}
