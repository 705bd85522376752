//! Distortion of colours, as mmsegmentation's `PhotoMetricDistortion` does it with OpenCV.

use crate::data::Image;
use crate::rng::Philox;

/// How much colours may change; each change happens with probability ½.
#[derive(Clone, Debug, PartialEq)]
pub struct Photometric {
    /// Values are moved by at most ± this.
    pub brightness: f32,
    /// Values are multiplied by a factor from this range.
    pub contrast: [f32; 2],
    /// Saturation is multiplied by a factor from this range.
    pub saturation: [f32; 2],
    /// Hue is turned by at most ± this, in 1/180 of the circle.
    pub hue: u8,
}

impl Default for Photometric {
    fn default() -> Self {
        Self { brightness: 32.0, contrast: [0.5, 1.5], saturation: [0.5, 1.5], hue: 18 }
    }
}

/// What is done to the colours of an image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distortion {
    /// Is added to values.
    pub brightness: Option<f32>,
    /// Multiplies values.
    pub contrast: Option<f32>,
    /// Whether contrast comes after saturation and hue; else it comes before.
    pub contrast_last: bool,
    /// Multiplies saturation.
    pub saturation: Option<f32>,
    /// Is added to the hue, in 1/180 of the circle.
    pub hue: Option<i16>,
}

impl Photometric {
    /// Draws one.
    pub fn draw(&self, rng: &mut Philox) -> Distortion {
        let mut maybe = |[low, high]: [f32; 2]| {
            let happens = rng.chance(0.5);
            let value = rng.range(low, high);
            happens.then_some(value)
        };
        let brightness = maybe([-self.brightness, self.brightness]);
        let contrast = maybe(self.contrast);
        let saturation = maybe(self.saturation);
        let contrast_last = rng.chance(0.5);
        // The upper end is left out, as there.
        let hue = rng.below(2 * usize::from(self.hue).max(1)) as i16 - i16::from(self.hue);
        let hue = rng.chance(0.5).then_some(hue);
        Distortion { brightness, contrast, contrast_last, saturation, hue }
    }
}

impl Distortion {
    /// Distorts an image. Values are cut to whole numbers from 0 to 255 after every step.
    pub fn apply(&self, image: &mut Image) {
        let scaled = |v: f32, last: bool| match self.contrast {
            Some(contrast) if self.contrast_last == last => to_byte(v * contrast),
            _ => v,
        };
        let moved = |v: f32| self.brightness.map_or(v, |by| to_byte(v + by));
        let before: [u8; 256] = std::array::from_fn(|v| scaled(moved(v as f32), false) as u8);
        let after: [u8; 256] = std::array::from_fn(|v| scaled(v as f32, true) as u8);
        let over = Reciprocals::new();
        for pixel in image.rgb.as_chunks_mut::<3>().0 {
            *pixel = pixel.map(|v| before[usize::from(v)]);
            if let Some(saturation) = self.saturation {
                let [h, s, v] = over.to_hsv(*pixel);
                *pixel = to_rgb([h, to_byte(f32::from(s) * saturation) as u8, v]);
            }
            if let Some(hue) = self.hue {
                let [h, s, v] = over.to_hsv(*pixel);
                *pixel = to_rgb([(i16::from(h) + hue).rem_euclid(180) as u8, s, v]);
            }
            *pixel = pixel.map(|v| after[usize::from(v)]);
        }
    }
}

/// Cut to 0 ..= 255, and towards zero.
fn to_byte(v: f32) -> f32 {
    v.clamp(0.0, 255.0).trunc()
}

/// Bits behind the point of [`Reciprocals`].
const BITS: i32 = 12;

/// 255/i and 30/i in whole numbers, by which OpenCV turns colours into hue and saturation.
struct Reciprocals {
    of_value: [i32; 256],
    of_range: [i32; 256],
}

impl Reciprocals {
    fn new() -> Self {
        let over = |numerator: i32, by: usize| match by {
            0 => 0,
            by => (f64::from(numerator << BITS) / by as f64).round_ties_even() as i32,
        };
        let table = |numerator| std::array::from_fn(|by| over(numerator, by));
        Self { of_value: table(255), of_range: table(180 / 6) }
    }

    /// Hue in 1/180 of the circle, saturation and value from 0 to 255.
    fn to_hsv(&self, [r, g, b]: [u8; 3]) -> [u8; 3] {
        let [r, g, b] = [r, g, b].map(i32::from);
        let value = r.max(g).max(b);
        let range = value - r.min(g).min(b);
        let round = |product: i32| (product + (1 << (BITS - 1))) >> BITS;
        let saturation = round(range * self.of_value[value as usize]);
        let sector = if value == r {
            g - b
        } else if value == g {
            b - r + 2 * range
        } else {
            r - g + 4 * range
        };
        let hue = round(sector * self.of_range[range as usize]);
        [if hue < 0 { hue + 180 } else { hue }, saturation, value].map(|v| v as u8)
    }
}

fn to_rgb([h, s, v]: [u8; 3]) -> [u8; 3] {
    let (s, v) = (f32::from(s) * (1.0 / 255.0), f32::from(v) * (1.0 / 255.0));
    let around = f32::from(h) * (6.0 / 180.0);
    let sector = around.floor();
    let beyond = around - sector;
    let (low, falls, rises) =
        (v * (1.0 - s), v * (1.0 - s * beyond), v * (1.0 - s * (1.0 - beyond)));
    let rgb = match sector as u8 % 6 {
        0 => [v, rises, low],
        1 => [falls, v, low],
        2 => [low, v, rises],
        3 => [low, falls, v],
        4 => [rises, low, v],
        _ => [v, low, falls],
    };
    rgb.map(|c| (c * 255.0).round_ties_even() as u8)
}
