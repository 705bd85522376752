//! What a result says beside its rows: where it was measured, and when.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::cx::Cx;
use crate::device::{Backend, Hardware};
use crate::error::Result;
use crate::train::folder::environment;
use crate::version::version;

/// What is known of the device's hardware.
pub(super) fn hardware(cx: &Cx) -> Hardware {
    match cx.backend() {
        Backend::Driver(driver) => driver.hardware(),
        _ => Hardware::default(),
    }
}

/// The beginning of a result: the machine, and these settings.
pub(super) fn about(cx: &Cx, settings: Value) -> Value {
    let hardware = hardware(cx);
    let on_cpu = matches!(cx.backend(), Backend::Cpu);
    let name = if on_cpu { environment(cx)["cpu"].clone() } else { json!(hardware.name) };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut about = json!({
        "device": cx.name(),
        "hardware": name,
        "driver": hardware.driver,
        "clock_mhz": hardware.clock_mhz,
        "memory_clock_mhz": hardware.memory_clock_mhz,
        "threads": on_cpu.then(|| cx.threads()),
        "engine": version(),
        "unix_time_s": now.map_or(0, |t| t.as_secs()),
    });
    extend(&mut about, settings);
    about
}

/// Adds to a result.
pub(super) fn extend(result: &mut Value, more: Value) {
    if let (Value::Object(result), Value::Object(more)) = (result, more) {
        result.extend(more);
    }
}

/// Runs `work`; a profiler that listens is told when it begins and ends.
pub(super) fn profiled<T>(cx: &Cx, profile: bool, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let listening = match cx.backend() {
        Backend::Driver(driver) if profile => Some(driver),
        _ => None,
    };
    listening.map_or(Ok(()), |driver| driver.profile(true))?;
    let done = work()?;
    listening.map_or(Ok(()), |driver| driver.profile(false))?;
    Ok(done)
}
