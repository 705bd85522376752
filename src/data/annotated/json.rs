//! What COCO's annotations and results have in common.

use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::geometry::polygon::rasterise;
use crate::geometry::{BBox, Rle};

/// What an image or a class is called: a number or a text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum Id {
    /// A whole number.
    Number(i64),
    /// Anything else.
    Text(String),
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => n.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an id: a whole number or a text")
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Id, E> {
                Ok(Id::Number(n))
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Id, E> {
                let id = i64::try_from(n).map(Id::Number);
                id.map_err(|_| E::invalid_value(de::Unexpected::Unsigned(n), &self))
            }
            fn visit_f64<E: de::Error>(self, n: f64) -> Result<Id, E> {
                // Some programs write 5.0; all whole numbers up to 2⁵³ are exact.
                match n.fract() == 0.0 && n.abs() < 9e15 {
                    true => Ok(Id::Number(n as i64)),
                    false => Err(E::invalid_value(de::Unexpected::Float(n), &self)),
                }
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Id, E> {
                Ok(Id::Text(text.to_owned()))
            }
        }
        from.deserialize_any(Any)
    }
}

/// A mask as JSON writes it.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Segmentation {
    /// Polygons, whose union it is; none of them where there is no mask.
    Polygons(Vec<Vec<f64>>),
    /// Run lengths.
    Runs {
        /// Height and width.
        size: [u32; 2],
        /// The lengths.
        counts: Counts,
    },
}

/// Run lengths, as a list or in COCO's compressed form.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Counts {
    List(Vec<u32>),
    Text(String),
}

impl Segmentation {
    /// The mask in an image of such a size; none where it has no polygon.
    ///
    /// # Errors
    /// In words that follow what has the mask: a damaged one, one of another size, a polygon in an
    /// image without a size.
    pub(super) fn mask(&self, image: Option<(u32, u32)>) -> Result<Option<Rle>> {
        let mask = match self {
            Self::Polygons(polygons) => {
                let mut closed = polygons.iter().filter(|p| encloses(p)).peekable();
                if closed.peek().is_none() {
                    return Ok(None);
                }
                let (height, width) = image.ok_or_else(|| {
                    Error::data("it has polygons, but its image has no \"height\" and \"width\"")
                })?;
                let parts = closed.map(|xy| rasterise(xy, height, width));
                return Ok(Rle::union(&parts.collect::<Result<Vec<_>>>()?));
            }
            Self::Runs { size: [h, w], counts: Counts::List(counts) } => {
                Rle::new(*h, *w, counts.clone())?
            }
            Self::Runs { size: [h, w], counts: Counts::Text(text) } => {
                Rle::from_text(*h, *w, text)?
            }
        };
        match image.filter(|size| *size != mask.size()) {
            None => Ok(Some(mask)),
            Some((h, w)) => Err(Error::data(format!(
                "expected a mask of its image's size {h}x{w} (height, width), found one of {}x{}",
                mask.size().0,
                mask.size().1
            ))),
        }
    }

    /// Its polygons; none where it has other masks.
    pub(super) fn into_polygons(self) -> Vec<Vec<f64>> {
        match self {
            Self::Polygons(mut polygons) => {
                polygons.retain(|p| encloses(p));
                polygons
            }
            Self::Runs { .. } => vec![],
        }
    }
}

/// Fewer than three corners enclose nothing.
fn encloses(polygon: &[f64]) -> bool {
    polygon.len() >= 6
}

/// A box from its four numbers.
pub(super) fn box_of([x, y, w, h]: [f64; 4]) -> BBox {
    BBox { x, y, w, h }
}

/// Parses JSON; errors name line and column.
pub(super) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8], title: &str, what: &str) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|e| Error::data(format!("{title}: expected {what}, found otherwise: {e}")))
}
