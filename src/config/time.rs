//! Lengths of time, `11h50m`, and how often checkpoints are written, `1000`, `30m` or `5ep`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};

/// Steps or epochs of an interval, at most: more than any run has, and few enough to reckon with.
const MOST: u64 = 1_000_000_000;

/// A length of time that a run can use, at most.
const LONGEST: Duration = Duration::from_secs(1000 * 86_400);

/// Parses `11h50m`, `90s`, `1d`, `1h 30min`. At least a second, at most a thousand days.
pub fn parse_duration(s: &str) -> Result<Duration> {
    duration(s).ok_or_else(|| {
        Error::usage(format!(
            "{s:?} is not a length of time: expected days, hours, minutes, seconds such as \
             11h50m, 30m or 90s, from 1s to 1000d"
        ))
    })
}

fn duration(s: &str) -> Option<Duration> {
    let time = humantime::parse_duration(s).ok()?;
    (Duration::from_secs(1)..=LONGEST).contains(&time).then_some(time)
}

/// Writes a length of time as [`parse_duration`] reads it: `11h50m`.
pub fn format_duration(time: Duration) -> String {
    humantime::format_duration(time).to_string().replace(' ', "")
}

/// How often something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CkptEvery {
    /// Each time this many steps are done.
    Steps(u64),
    /// Each time this many epochs are done.
    Epochs(u64),
    /// Each time this long has passed.
    Time(Duration),
}

impl FromStr for CkptEvery {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        let positive = |n: &str| n.parse().ok().filter(|n: &u64| (1..=MOST).contains(n));
        let steps = positive(s).map(Self::Steps);
        let epochs = || s.strip_suffix("ep").and_then(positive).map(Self::Epochs);
        steps.or_else(epochs).or_else(|| duration(s).map(Self::Time)).ok_or_else(|| {
            Error::usage(format!(
                "{s:?} is not an interval: expected a number of steps (1000) or of epochs (5ep), at \
                 most {MOST}, or a length of time (30m), at most 1000d"
            ))
        })
    }
}

impl fmt::Display for CkptEvery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(n) => write!(f, "{n}"),
            Self::Epochs(n) => write!(f, "{n}ep"),
            Self::Time(t) => f.write_str(&format_duration(*t)),
        }
    }
}

impl Serialize for CkptEvery {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Steps(n) => serializer.serialize_u64(*n),
            other => serializer.collect_str(other),
        }
    }
}

impl<'de> Deserialize<'de> for CkptEvery {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        interval(deserializer)
    }
}

/// An interval from a number or from text.
fn interval<'de, D: Deserializer<'de>, T: FromStr<Err = Error>>(
    deserializer: D,
) -> Result<T, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Number(i64),
        Text(String),
        Other(serde::de::IgnoredAny),
    }
    let text = match Form::deserialize(deserializer)? {
        Form::Number(n) => n.to_string(),
        Form::Text(text) => text,
        Form::Other(_) => String::new(),
    };
    text.parse().map_err(serde::de::Error::custom)
}

/// How often a run is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeEvery {
    /// Each epoch, or each twentieth of the run's steps where that is longer.
    Auto,
    /// At this interval.
    Every(CkptEvery),
}

impl FromStr for ProbeEvery {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        match s {
            "auto" => Ok(Self::Auto),
            _ => {
                s.parse().map(Self::Every).map_err(|e: Error| Error::usage(format!("{e}, or auto")))
            }
        }
    }
}

impl Serialize for ProbeEvery {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Every(every) => every.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ProbeEvery {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        interval(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_round_trip() {
        for text in ["11h50m", "30m", "90m", "1d2h3m4s", "45s", "100d", "1d", "1h 30min"] {
            let time = parse_duration(text).unwrap();
            assert_eq!(parse_duration(&format_duration(time)).unwrap(), time);
        }
        assert_eq!(parse_duration("11h50m").unwrap().as_secs(), 42_600);
        assert_eq!(format_duration(Duration::from_secs(42_600)), "11h50m");
        for text in
            ["", "30", "m", "-3m", "0s", "0", "999ms", "99999999999999999999d", "5é", "1001d"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn intervals() {
        assert_eq!("1000".parse::<CkptEvery>().unwrap(), CkptEvery::Steps(1000));
        assert_eq!("5ep".parse::<CkptEvery>().unwrap(), CkptEvery::Epochs(5));
        assert_eq!("30m".parse::<CkptEvery>().unwrap(), CkptEvery::Time(Duration::from_secs(1800)));
        for text in [
            "",
            "0",
            "0ep",
            "-1",
            "5e",
            "ep",
            "1.5",
            "1000000001",
            "9223372036854775808",
            "18446744073709551616ep",
            "1001d",
            "99999999999999999999h",
        ] {
            assert!(text.parse::<CkptEvery>().is_err(), "{text}");
            assert!(text.parse::<ProbeEvery>().is_err(), "{text}");
        }
        assert_eq!("auto".parse::<ProbeEvery>().unwrap(), ProbeEvery::Auto);
        let every = ProbeEvery::Every(CkptEvery::Epochs(2));
        assert_eq!("2ep".parse::<ProbeEvery>().unwrap(), every);
    }
}
