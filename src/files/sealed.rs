//! JSON that carries its own digest: what was edited or damaged after it was written is noticed.
//!
//! The last field, `blake3`, is the BLAKE3 of the text in which the digest itself is replaced by
//! zeros. Files without the field are those of earlier versions.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::write_text;
use crate::error::{Error, Result};

/// The field that holds the digest.
pub const FIELD: &str = "blake3";
const DIGITS: usize = 64;

/// Writes a value, which must be an object, as indented JSON with its digest.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    write_text(path, &(sealed(value).map_err(|e| Error::write(path, e))? + "\n"))
}

/// Reads a file of [`write_json`].
///
/// # Errors
/// [`crate::Kind::Data`] where it cannot be read, was changed, or is something else.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    read(path, false)
}

/// As [`read_json`], for files that earlier versions wrote without a digest: one that has none is
/// taken as it is.
pub fn read_json_or_older<T: DeserializeOwned>(path: &Path) -> Result<T> {
    read(path, true)
}

fn read<T: DeserializeOwned>(path: &Path, older: bool) -> Result<T> {
    let text = super::read_text(path)?;
    parse(text.trim_end(), older).map_err(|e| Error::data(format!("{} {e}", path.display())))
}

/// The value of a file's text. The error says what is wrong, to follow a name.
fn parse<T: DeserializeOwned>(text: &str, older: bool) -> Result<T, String> {
    let value: Value =
        serde_json::from_str(text).map_err(|e| format!("is not what it should be: {e}"))?;
    if value.get(FIELD).is_some() || !older {
        check(text, &value)?;
    }
    serde_json::from_value(value).map_err(|e| format!("is not what it should be: {e}"))
}

fn sealed(value: &impl Serialize) -> serde_json::Result<String> {
    let mut value = serde_json::to_value(value)?;
    if let Value::Object(map) = &mut value {
        map.insert(FIELD.into(), "0".repeat(DIGITS).into());
    }
    let mut text = serde_json::to_string_pretty(&value)?;
    if let Some(at) = digest_at(&text) {
        let digest = blake3::hash(text.as_bytes()).to_hex();
        text.replace_range(at..at + DIGITS, &digest);
    }
    Ok(text)
}

/// Where the digest stands in a text whose last field it is.
fn digest_at(text: &str) -> Option<usize> {
    let end = text.trim_end().strip_suffix('}')?.trim_end().strip_suffix('"')?.len();
    let start = end.checked_sub(DIGITS)?;
    let before = text.get(..start)?.strip_suffix('"')?.trim_end().strip_suffix(':')?;
    before.ends_with("\"blake3\"").then_some(start)
}

fn check(text: &str, value: &Value) -> Result<(), String> {
    let Some(found) = value.get(FIELD) else {
        return Err(format!("has no digest ({FIELD}): it was changed or damaged"));
    };
    let expected = digest_at(text).map(|at| {
        let mut blank = text.to_owned();
        blank.replace_range(at..at + DIGITS, &"0".repeat(DIGITS));
        blake3::hash(blank.as_bytes()).to_hex().to_string()
    });
    match expected {
        Some(expected) if found.as_str() == Some(&expected) => Ok(()),
        _ => Err(format!(
            "was changed or damaged after it was written: its digest is {found}, that of its text \
             is {}",
            expected.as_deref().unwrap_or("none, as it does not end with one")
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    #[test]
    fn every_change_is_noticed() {
        let value = json!({"step": 7, "lr": 0.1, "names": {"a": "b"}});
        let line = sealed(&value).unwrap();
        assert_eq!(parse::<Value>(&line, false).unwrap()["lr"], 0.1);
        for at in 0..line.len() {
            let mut bytes = line.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            assert!(parse::<Value>(&changed, false).is_err(), "{changed}");
        }
    }

    #[test]
    fn files_are_sealed_and_older_ones_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        write_json(&path, &json!({"step": 7})).unwrap();
        assert_eq!(read_json::<Value>(&path).unwrap()["step"], 7);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace('7', "8")).unwrap();
        let said = read_json::<Value>(&path).unwrap_err().to_string();
        assert!(said.contains("x.json was changed"), "{said}");
        fs::write(&path, "{\"step\": 8}").unwrap();
        assert!(read_json::<Value>(&path).is_err());
        assert_eq!(read_json_or_older::<Value>(&path).unwrap()["step"], 8);
    }
}
