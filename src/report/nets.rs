//! A net drawn as its blocks: one bar a block, as high as it is wide in channels, before the
//! outline of the largest net of the space.

use super::svg::{Anchor, Svg};
use crate::search::Candidate;
use crate::space::budget::{macs, si};
use crate::space::cost::output_size;
use crate::space::{Arch, STAGES, Space};

const HEIGHT: f64 = 158.0;
const MIDDLE: f64 = 70.0;
/// Height of the widest block of the largest net.
const TALLEST: f64 = 92.0;
/// Least room of a stage: its labels.
const STAGE_ROOM: f64 = 76.0;
const GAP: f64 = 14.0;

/// Whether nets of this space are so deep that a drawing wants the whole width of the page.
pub(super) fn is_wide(space: &Space) -> bool {
    space.max().depths.iter().sum::<usize>() > 20
}

/// Pixels a side of the maps that the stem and each stage put out.
fn map_sizes(space: &Space) -> [usize; STAGES + 1] {
    let stem = output_size(space.resolution, space.stem.kernel, space.stem.stride);
    let mut size = if space.stem.maxpool { output_size(stem, 3, 2) } else { stem };
    let mut sizes = [stem; STAGES + 1];
    for (at, stage) in sizes[1..].iter_mut().zip(&space.stages) {
        size = output_size(size, 3, stage.stride);
        *at = size;
    }
    sizes
}

/// The net as an SVG element.
pub(super) fn draw(arch: &Arch, space: &Space) -> String {
    let max = space.max();
    let sizes = map_sizes(space);
    let blocks: usize = max.depths.iter().sum();
    let pitch = (560.0 / blocks as f64).clamp(7.0, 26.0);
    let rooms = max.depths.map(|d| (d as f64 * pitch).max(STAGE_ROOM));
    let stem_room = 48.0;
    let width = stem_room + rooms.iter().sum::<f64>() + GAP * (STAGES as f64 + 1.0);
    let widest = max.widths.iter().copied().fold(max.stem, usize::max);
    // Square root: the stem's 8 channels remain visible beside 640.
    let height = |channels: usize| TALLEST * (channels as f64 / widest as f64).sqrt();
    let bar = |svg: &mut Svg, class: &str, x: f64, channels: usize| {
        let h = height(channels);
        svg.rect(class, (x, MIDDLE - h / 2.0), (pitch * 0.74, h), 1.5, None);
    };
    let mut svg = Svg::new((width, HEIGHT), &format!("blocks of {arch}"));

    let centre = GAP / 2.0 + stem_room / 2.0;
    bar(&mut svg, "ghost", centre - pitch * 0.37, max.stem);
    bar(&mut svg, "block stem", centre - pitch * 0.37, arch.stem);
    labels(&mut svg, centre, sizes[0], "stem", &of(arch.stem, max.stem));

    let mut left = GAP * 1.5 + stem_room;
    for i in 0..STAGES {
        let centre = left + rooms[i] / 2.0;
        let start = centre - max.depths[i] as f64 * pitch / 2.0;
        let at = |block: usize| start + (block as f64 + 0.13) * pitch;
        (0..max.depths[i]).for_each(|b| bar(&mut svg, "ghost", at(b), max.widths[i]));
        let class = format!("block stage{}", i + 1);
        (0..arch.depths[i]).for_each(|b| bar(&mut svg, &class, at(b), arch.widths[i]));
        let depth = format!("{} blocks", of(arch.depths[i], max.depths[i]));
        labels(&mut svg, centre, sizes[i + 1], &depth, &of(arch.widths[i], max.widths[i]));
        left += rooms[i] + GAP;
    }
    svg.finish()
}

/// `48/80`, or `80` where that is all.
fn of(part: usize, whole: usize) -> String {
    if part == whole { part.to_string() } else { format!("{part}/{whole}") }
}

fn labels(svg: &mut Svg, centre: f64, size: usize, below: &str, channels: &str) {
    svg.text("tick", (centre, 13.0), Anchor::Middle, &format!("{size}×{size}"));
    svg.text("netlabel", (centre, HEIGHT - 22.0), Anchor::Middle, below);
    svg.text("tick", (centre, HEIGHT - 6.0), Anchor::Middle, &format!("{channels} ch"));
}

/// Cost in words: `4.09 GMACs · 23.5 M parameters`.
pub(super) fn cost(c: &Candidate) -> String {
    let latency = c.latency_ms.map_or(String::new(), |ms| format!(" · {ms:.2} ms"));
    format!("{} · {} parameters{latency}", macs(c.macs), si(c.params))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_is_drawn() {
        let space = Space::preset("data").unwrap();
        assert_eq!(map_sizes(&space), [112, 56, 28, 14, 7]);
        let arch: Arch = "s32-w48.96.192.512-d2.2.5.2".parse().unwrap();
        let svg = draw(&arch, &space);
        assert_eq!(svg.matches("\"block st").count(), 1 + 2 + 2 + 5 + 2);
        assert_eq!(svg.matches("\"ghost").count(), 1 + 4 + 6 + 29 + 4);
    }
}
