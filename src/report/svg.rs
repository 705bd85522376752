//! Vector graphics as text. Colours are classes, which the page's style sheet resolves for
//! light and dark.

use std::fmt::Write;

use serde::Serialize;

/// Which end of a text its position names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// How large a chart is: in a page of full width, and in that of a phone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Size {
    wide: (f64, f64),
    narrow: (f64, f64),
}

impl Size {
    /// The whole width of the page.
    pub(super) const WIDE: Self = Self::new((1000.0, 320.0), 260.0);
    /// The whole width, for many dots.
    pub(super) const TALL: Self = Self::new((1000.0, 380.0), 320.0);
    /// Half of the page's width.
    pub(super) const HALF: Self = Self::new((490.0, 230.0), 220.0);

    /// A map of many dots.
    pub(super) const MAP: Self = Self::new((1000.0, 560.0), 340.0);

    /// The whole width, as high as so many rows are.
    pub(super) fn of_rows(rows: usize, row: f64) -> Self {
        let height = rows as f64 * row;
        Self::new((1000.0, height), height)
    }

    const fn new(wide: (f64, f64), narrow_height: f64) -> Self {
        Self { wide, narrow: (NARROW, narrow_height) }
    }

    /// Whether a chart takes the whole width of the page.
    pub(super) fn is_wide(self) -> bool {
        self != Self::HALF
    }

    /// Both sizes, in pixels.
    #[cfg(test)]
    pub(super) fn all(self) -> [(f64, f64); 2] {
        [self.wide, self.narrow]
    }

    /// A chart drawn at both sizes; none where there is nothing to draw.
    pub(super) fn layouts(self, draw: impl Fn((f64, f64)) -> Option<String>) -> Option<Layouts> {
        Some(Layouts { wide: draw(self.wide)?, narrow: draw(self.narrow)? })
    }
}

/// Width of charts on a phone, in pixels: about that of a card on a screen of 400.
const NARROW: f64 = 340.0;

/// A chart drawn twice, so that its letters have their size on every screen; the style sheet shows
/// one of them.
#[derive(Serialize)]
pub(super) struct Layouts {
    pub(super) wide: String,
    pub(super) narrow: String,
}

/// A drawing being made; lengths are in pixels at its natural size.
pub(super) struct Svg {
    body: String,
}

impl Svg {
    /// An empty drawing; `label` is what a screen reader says.
    pub(super) fn new(size: (f64, f64), label: &str) -> Self {
        Self::with(size, label, "")
    }

    /// As [`Svg::new`], with more attributes, each after a space.
    pub(super) fn with((width, height): (f64, f64), label: &str, attributes: &str) -> Self {
        let (w, h) = (num(width), num(height));
        let label = escape(label);
        // A little more than the natural size, so that letters stay near their size.
        let most = num(width * if width > NARROW { 1.08 } else { 1.4 });
        let body = format!(
            "<svg viewBox=\"0 0 {w} {h}\" style=\"--width:{w}px;max-width:{most}px\" role=\"img\" \
             aria-label=\"{label}\"{attributes}>"
        );
        Self { body }
    }

    /// A straight line.
    pub(super) fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        let d = format!("M{} {}L{} {}", num(x1), num(y1), num(x2), num(y2));
        self.path(class, &d, None);
    }

    /// Any path, in SVG's own notation.
    pub(super) fn path(&mut self, class: &str, d: &str, title: Option<&str>) {
        self.shape("path", class, &format!("d=\"{d}\""), title);
    }

    /// An image that fills a size; a drawing further down may [show](Svg::shown) it again.
    pub(super) fn image(&mut self, id: &str, (w, h): (f64, f64), address: &str) {
        let (id, w, h, address) = (escape(id), num(w), num(h), escape(address));
        let _ = write!(
            self.body,
            "<image id=\"{id}\" width=\"{w}\" height=\"{h}\" href=\"{address}\"/>"
        );
    }

    /// An image of an earlier drawing.
    pub(super) fn shown(&mut self, id: &str) {
        let _ = write!(self.body, "<use href=\"#{}\"/>", escape(id));
    }

    /// A rectangle at (x, y) of size (w, h) with corners of radius `round`.
    pub(super) fn rect(
        &mut self,
        class: &str,
        (x, y): (f64, f64),
        (w, h): (f64, f64),
        round: f64,
        title: Option<&str>,
    ) {
        let mut attributes = format!(
            "x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"",
            num(x),
            num(y),
            num(w.max(0.0)),
            num(h.max(0.0))
        );
        if round > 0.0 {
            let _ = write!(attributes, " rx=\"{}\"", num(round));
        }
        self.shape("rect", class, &attributes, title);
    }

    /// A disc.
    pub(super) fn circle(&mut self, class: &str, (x, y): (f64, f64), r: f64, title: Option<&str>) {
        let attributes = format!("cx=\"{}\" cy=\"{}\" r=\"{}\"", num(x), num(y), num(r));
        self.shape("circle", class, &attributes, title);
    }

    /// A mark at (x, y) about as large as a disc of radius `r`. Its form goes with the last of its
    /// classes, a form or a colour, for those who do not see colours.
    pub(super) fn mark(&mut self, class: &str, (x, y): (f64, f64), r: f64, title: Option<&str>) {
        let last = class.rsplit(' ').next().unwrap_or_default();
        let around = |corners: &[(f64, f64)]| {
            let point = |(dx, dy): &(f64, f64)| format!("{} {}", num(x + dx * r), num(y + dy * r));
            format!("M{}Z", corners.iter().map(point).collect::<Vec<_>>().join("L"))
        };
        let form = match last {
            "c2" | "f2" => around(&[(0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)]),
            "c3" | "f3" => around(&[(0.0, -1.3), (1.2, 0.8), (-1.2, 0.8)]),
            "c4" | "f4" => around(&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]),
            "c5" | "f5" => around(&[(0.0, 1.3), (1.2, -0.8), (-1.2, -0.8)]),
            _ => return self.circle(class, (x, y), r, title),
        };
        self.path(class, &form, title);
    }

    /// Begins a group.
    pub(super) fn open(&mut self, attributes: &str) {
        let _ = write!(self.body, "<g {attributes}>");
    }

    /// Ends it.
    pub(super) fn close(&mut self) {
        self.body.push_str("</g>");
    }

    /// A line of text; `y` is its baseline.
    pub(super) fn text(&mut self, class: &str, at: (f64, f64), anchor: Anchor, text: &str) {
        self.text_of(class, at, anchor, "", text);
    }

    /// A line of text that stands for the point `of`: with it, it moves in a chart that is zoomed.
    pub(super) fn text_beside(&mut self, class: &str, at: (f64, f64), of: (f64, f64), text: &str) {
        let of = format!(" data-at=\"{} {}\"", num(of.0), num(of.1));
        self.text_of(class, at, Anchor::Start, &of, text);
    }

    fn text_of(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, more: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let (x, y, text) = (num(x), num(y), escape(text));
        let _ = write!(
            self.body,
            "<text class=\"{class}\" x=\"{x}\" y=\"{y}\"{anchor}{more}>{text}</text>"
        );
    }

    fn shape(&mut self, tag: &str, class: &str, attributes: &str, title: Option<&str>) {
        let _ = write!(self.body, "<{tag} class=\"{class}\" {attributes}");
        let _ = match title {
            None => write!(self.body, "/>"),
            Some(t) => write!(self.body, "><title>{}</title></{tag}>", escape(t)),
        };
    }

    /// The element.
    pub(super) fn finish(mut self) -> String {
        self.body.push_str("</svg>");
        self.body
    }
}

/// A mark of these classes by itself, for a legend.
pub(super) fn key(class: &str) -> String {
    let mut svg = Svg::with((14.0, 14.0), "", " aria-hidden=\"true\"");
    svg.mark(class, (7.0, 7.0), 4.5, None);
    svg.finish()
}

/// A path through points; it is lifted where one is missing, and a point alone between gaps
/// becomes a dot.
pub(super) fn polyline(points: &[Option<(f64, f64)>]) -> String {
    let mut d = String::new();
    for (i, p) in points.iter().enumerate() {
        let Some((x, y)) = p else { continue };
        let joined = i > 0 && points[i - 1].is_some();
        let _ = write!(d, "{}{} {}", if joined { 'L' } else { 'M' }, num(*x), num(*y));
        if !joined && points.get(i + 1).is_none_or(Option::is_none) {
            d.push_str("h.01");
        }
    }
    d
}

/// A coordinate with at most one decimal.
pub(super) fn num(x: f64) -> String {
    let s = format!("{x:.1}");
    match s.strip_suffix(".0") {
        Some("-0") => "0".into(),
        Some(whole) => whole.into(),
        None => s,
    }
}

/// Text for use inside HTML, also within quotes.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// About how wide a text is drawn, from the widths of a usual sans-serif font.
pub(super) fn text_width(text: &str, font_px: f64) -> f64 {
    let em = |c: char| match c {
        'i' | 'j' | 'l' | '.' | ',' | ':' | '\'' | '|' | ' ' => 0.3,
        'm' | 'w' | 'M' | 'W' => 0.88,
        'A'..='Z' | '×' | '–' => 0.68,
        _ => 0.57,
    };
    text.chars().map(em).sum::<f64>() * font_px
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_lift_the_pen() {
        let points = [Some((0.0, 1.0)), Some((1.0, 2.0)), None, Some((3.0, 0.25)), None];
        assert_eq!(polyline(&points), "M0 1L1 2M3 0.2h.01");
    }

    #[test]
    fn text_cannot_break_out() {
        let mut svg = Svg::new((10.0, 10.0), "a \"b\"");
        svg.text("t", (0.0, 0.0), Anchor::End, "<script>&");
        let out = svg.finish();
        assert!(out.contains("&lt;script&gt;&amp;") && out.contains("a &quot;b&quot;"), "{out}");
    }
}
