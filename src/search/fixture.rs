//! Numbers from scipy and numpy: `tests/fixtures/statistics.py`.

/// The fixture.
pub(super) fn read() -> serde_json::Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/statistics.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}
