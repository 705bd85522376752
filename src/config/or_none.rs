//! Settings that may have no value.

use std::fmt::Display;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The word for none.
const NONE: &str = "none";

/// A value, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrNone<T>(pub Option<T>);

impl<T: Display> Serialize for OrNone<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_str(NONE),
        }
    }
}

impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for OrNone<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            NONE => Ok(Self(None)),
            "" => Err(D::Error::custom("found no value, expected one or none")),
            text => text.parse().map(|value| Self(Some(value))).map_err(D::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{resolve, word};

    #[test]
    fn a_value_none_or_an_error() {
        let of = |text| resolve(&[word(text)?]).map(|made| made.config.log.prometheus.0);
        assert_eq!(of("log.prometheus=none").unwrap(), None);
        assert_eq!(of("log.prometheus=a.prom").unwrap().as_deref(), Some("a.prom"));
        let e = of("log.prometheus=").unwrap_err().to_string();
        assert!(e.contains("log.prometheus"), "{e}");
    }
}
