//! The net that is trained by itself.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::space::Arch;

/// The word for no such net.
const NONE: &str = "none";

/// An architecture, or none: the supernet is trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnlyArch(pub Option<Arch>);

impl Serialize for OnlyArch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(arch) => serializer.collect_str(&arch),
            None => serializer.serialize_str(NONE),
        }
    }
}

impl<'de> Deserialize<'de> for OnlyArch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            NONE => Ok(Self(None)),
            id => id.parse().map(|arch| Self(Some(arch))).map_err(serde::de::Error::custom),
        }
    }
}
