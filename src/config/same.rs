//! Settings of the second view, which may be those of the first.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The word that stands for the first view's value.
const SAME: &str = "same";

/// A value of the second view's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum OrSame {
    /// As the first view has it.
    #[default]
    Same,
    /// A value of its own.
    Own(f64),
}

impl OrSame {
    /// The value, given the first view's.
    pub fn or(self, first: f64) -> f64 {
        match self {
            Self::Same => first,
            Self::Own(value) => value,
        }
    }
}

impl Serialize for OrSame {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Same => serializer.serialize_str(SAME),
            Self::Own(value) => serializer.serialize_f64(*value),
        }
    }
}

impl<'de> Deserialize<'de> for OrSame {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Whole(i64),
            Number(f64),
            Text(String),
            Other(serde::de::IgnoredAny),
        }
        match Form::deserialize(deserializer)? {
            Form::Whole(n) => Ok(Self::Own(n as f64)),
            Form::Number(x) => Ok(Self::Own(x)),
            Form::Text(text) if text == SAME => Ok(Self::Same),
            Form::Text(_) | Form::Other(_) => {
                Err(serde::de::Error::custom("expected a number, or same"))
            }
        }
    }
}
