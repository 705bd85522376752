//! A file that a setting names, or none.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The word for no file.
const NONE: &str = "none";

/// A file, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OptionalFile(pub Option<PathBuf>);

impl Serialize for OptionalFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(path) => serializer.collect_str(&path.display()),
            None => serializer.serialize_str(NONE),
        }
    }
}

impl<'de> Deserialize<'de> for OptionalFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(Self(Some(text).filter(|text| text != NONE).map(PathBuf::from)))
    }
}
