//! TensorBoard's event files: what `metrics.jsonl` says of the logged steps, for TensorBoard to show
//! while a run goes on and afterwards.
//!
//! A file is a list of records: the length of the bytes (u64, little-endian), its masked CRC-32C, the
//! bytes, and theirs. Each process of a run writes a file of its own; one that goes on from a step
//! says so, and readers drop what earlier files say of that step and later ones.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;

use crate::error::{Error, Result};
use crate::files::{self, disk};

/// Folder of the files, in a run's.
pub(super) const FOLDER: &str = "tb";
/// How their names begin; the time in seconds and the machine follow, so that the files of a run
/// sort by their beginnings.
const NAME: &str = "events.out.tfevents.";

/// `Event` of TensorBoard's `event.proto`, as far as it is written.
#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, optional, tag = "1")]
    wall_time: Option<f64>,
    #[prost(int64, optional, tag = "2")]
    step: Option<i64>,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, optional, tag = "1")]
    tag: Option<String>,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, optional, tag = "1")]
    status: Option<i32>,
}

/// The format's version, which the first event of a file names.
const VERSION: &str = "brain.Event:2";
/// Status of a session that begins.
const START: i32 = 1;

/// An event file that is being written.
pub(super) struct Events {
    file: File,
    path: PathBuf,
}

impl Events {
    /// Begins a file in a run's folder, for steps from `first_step` on.
    ///
    /// # Errors
    /// [`crate::Kind::Device`] where the disk refuses.
    pub(super) fn begin(run: &Path, first_step: u64) -> Result<Self> {
        let folder = run.join(FOLDER);
        let failed = |path: &Path, e: std::io::Error| Error::write(path, files::disk_hint(&e));
        disk::create_dir_all(&folder).map_err(|e| failed(&folder, e))?;
        let now = now().as_secs();
        // Readers take the files in the order of their names, whatever this machine's clock says.
        let newest = newest(&folder).map_err(|e| Error::read(&folder, e))?;
        let seconds = newest.map_or(now, |newest| now.max(newest + 1));
        let machine = rustix::system::uname().nodename().to_string_lossy().replace('/', "-");
        let path = folder.join(format!("{NAME}{seconds:010}.{machine}"));
        let file = disk::append(&path).map_err(|e| failed(&path, e))?;
        let events = Self { file, path };
        let version = Event { file_version: Some(VERSION.into()), ..at(0) };
        let start = SessionLog { status: Some(START) };
        let start = Event { session_log: Some(start), ..at(first_step) };
        events.write(&match (first_step, newest) {
            (0, None) => vec![version],
            _ => vec![version, start],
        })?;
        Ok(events)
    }

    /// Adds the values of a step.
    ///
    /// # Errors
    /// [`crate::Kind::Device`] where the disk refuses.
    pub(super) fn add(&self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        let scalar = |(tag, value): &(&str, f64)| Scalar {
            tag: Some((*tag).to_owned()),
            simple_value: Some(*value as f32),
        };
        let summary = Summary { value: values.iter().map(scalar).collect() };
        self.write(&[Event { summary: Some(summary), ..at(step) }])
    }

    /// One write call: a killed run leaves whole records.
    fn write(&self, events: &[Event]) -> Result<()> {
        let bytes: Vec<u8> = events.iter().flat_map(|e| record(&e.encode_to_vec())).collect();
        disk::write_all(&self.file, &self.path, &bytes)
            .map_err(|e| Error::write(&self.path, files::disk_hint(&e)))
    }
}

fn now() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// An event of a step, now, that says nothing yet.
fn at(step: u64) -> Event {
    Event {
        wall_time: Some(now().as_secs_f64()),
        step: Some(step.try_into().unwrap_or(i64::MAX)),
        ..Event::default()
    }
}

/// Seconds in the name of the newest file.
fn newest(folder: &Path) -> std::io::Result<Option<u64>> {
    let mut newest = None;
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let seconds = name.strip_prefix(NAME).and_then(|rest| rest.split('.').next()?.parse().ok());
        newest = newest.max(seconds);
    }
    Ok(newest)
}

/// A record's bytes.
fn record(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    let crc = |bytes: &[u8]| masked_crc(bytes).to_le_bytes();
    [&length[..], &crc(&length), bytes, &crc(bytes)].concat()
}

/// CRC-32C, rotated and with a number added, so that a file of records inside a record does not
/// confuse its own sums.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events of a file; none where a record is not whole or a sum is wrong.
    fn read(mut bytes: &[u8]) -> Option<Vec<Event>> {
        let mut events = Vec::new();
        let sum_fits = |bytes: &[u8], sum: &[u8]| masked_crc(bytes).to_le_bytes() == *sum;
        while !bytes.is_empty() {
            let (head, rest) = bytes.split_at_checked(12)?;
            let length = u64::from_le_bytes(head[..8].try_into().ok()?) as usize;
            let (body, rest) = rest.split_at_checked(length)?;
            let (sum, rest) = rest.split_at_checked(4)?;
            if !sum_fits(&head[..8], &head[8..]) || !sum_fits(body, sum) {
                return None;
            }
            events.push(Event::decode(body).ok()?);
            bytes = rest;
        }
        Some(events)
    }

    fn names(folder: &Path) -> Vec<PathBuf> {
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_sums_are_those_of_the_format() {
        // The check value of CRC-32C, and an event file's first record as TensorFlow writes it.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(masked_crc(&24_u64.to_le_bytes()).to_le_bytes(), [0xa3, 0x7f, 0x4b, 0x22]);
    }

    #[test]
    fn a_run_that_goes_on_writes_a_file_that_says_from_where() {
        let dir = tempfile::tempdir().unwrap();
        let first = Events::begin(dir.path(), 0).unwrap();
        for step in 0..3 {
            first.add(step, &[("loss", 2.5 - step as f64), ("lr", 0.1)]).unwrap();
        }
        // In the same second.
        let second = Events::begin(dir.path(), 2).unwrap();
        second.add(2, &[("loss", f64::NAN)]).unwrap();
        let files = names(&dir.path().join(FOLDER));
        assert_eq!(files, [first.path.clone(), second.path.clone()]);
        let [first, second] = [first, second].map(|e| read(&fs::read(e.path).unwrap()).unwrap());
        assert_eq!(first[0].file_version(), VERSION);
        assert_eq!(first.len(), 4);
        let scalars = |e: &Event| e.summary.clone().unwrap().value;
        let last = scalars(&first[3]);
        assert_eq!((first[3].step(), last[0].tag(), last[0].simple_value()), (2, "loss", 0.5));
        assert_eq!((last[1].tag(), last[1].simple_value()), ("lr", 0.1));
        assert!(first.iter().all(|e| e.session_log.is_none() && e.wall_time() > 1.7e9));
        assert_eq!(second[0].file_version(), VERSION);
        assert_eq!(
            (second[1].step(), second[1].session_log.clone()),
            (2, Some(SessionLog { status: Some(1) }))
        );
        assert!(scalars(&second[2])[0].simple_value().is_nan());
    }

    #[test]
    fn any_change_of_a_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let events = Events::begin(dir.path(), 5).unwrap();
        events.add(5, &[("loss", 1.0)]).unwrap();
        let good = fs::read(&events.path).unwrap();
        assert_eq!(read(&good).unwrap().len(), 3);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(read(&bad), None, "byte {at}");
            assert!(at == 0 || read(&good[..at]).is_none_or(|events| events.len() < 3));
        }
    }

    #[test]
    fn a_disk_that_refuses_is_an_error_of_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FOLDER), "a file").unwrap();
        assert_eq!(Events::begin(dir.path(), 0).err().unwrap().kind(), crate::Kind::Device);
    }
}
