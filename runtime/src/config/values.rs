//! Values with a unit: sizes, durations, rates.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The operator wrote a value that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not {expected}")]
pub struct BadValue {
    /// What was written.
    pub value: String,
    /// What is accepted, with an example.
    pub expected: &'static str,
}

/// A number of bytes, written as `"50MiB"`, `"10MB"` or a plain number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// `count` times 1,048,576 bytes.
    pub const fn mib(count: u64) -> ByteSize {
        ByteSize(count * 1024 * 1024)
    }

    /// `count` times 1,024 bytes.
    pub const fn kib(count: u64) -> ByteSize {
        ByteSize(count * 1024)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// A length of time, written as `"500ms"`, `"30s"`, `"5m"`, `"12h"`, `"7d"` or several of these
/// (`"1h 30m"`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

impl Span {
    /// `count` seconds.
    pub const fn seconds(count: u64) -> Span {
        Span(Duration::from_secs(count))
    }

    /// The standard library's form.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

/// A token bucket: on average `per_second`, with `burst` at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Tokens that return each second; 0.1 is one in ten seconds.
    pub per_second: f64,
    /// The most tokens there can be.
    pub burst: u32,
}

impl RateLimit {
    /// On average `per_second`, with `burst` at once.
    pub const fn new(per_second: f64, burst: u32) -> RateLimit {
        RateLimit { per_second, burst }
    }
}

const SIZES: &[(&str, u64)] = &[
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
    ("", 1),
];
const TIMES_MS: &[(&str, u64)] = &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Splits "50MiB" into 50 and "MiB".
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit))
}

fn scale((number, unit): (u64, &str), units: &[(&str, u64)]) -> Option<u64> {
    let (_, factor) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.checked_mul(*factor)
}

impl FromStr for ByteSize {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<ByteSize, BadValue> {
        let compact: String = text.split_whitespace().collect();
        let bytes = split_unit(&compact).and_then(|parts| scale(parts, SIZES));
        let expected = "a size such as \"50MiB\" (B, KiB, MiB, GiB, kB, MB, GB)";
        bytes.map(ByteSize).ok_or_else(|| BadValue { value: text.to_owned(), expected })
    }
}

impl FromStr for Span {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Span, BadValue> {
        let bad = || BadValue {
            value: text.to_owned(),
            expected: "a duration such as \"30s\" or \"1h 30m\" (ms, s, m, h, d)",
        };
        let mut total = 0u64;
        for part in text.split_whitespace() {
            let ms = split_unit(part).and_then(|parts| scale(parts, TIMES_MS)).ok_or_else(bad)?;
            total = total.checked_add(ms).ok_or_else(bad)?;
        }
        if text.trim().is_empty() { Err(bad()) } else { Ok(Span(Duration::from_millis(total))) }
    }
}

/// Writes `number` in the largest unit that divides it.
fn write_scaled(f: &mut fmt::Formatter<'_>, number: u64, units: &[(&str, u64)]) -> fmt::Result {
    let fitting = units.iter().find(|(_, factor)| number != 0 && number.is_multiple_of(*factor));
    match fitting.or(units.last()) {
        Some((name, factor)) => write!(f, "{}{name}", number / factor),
        None => write!(f, "{number}"),
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(f, self.0, SIZES)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(f, u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX), TIMES_MS)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a size such as \"50MiB\" or a number of bytes")]
enum NumberOrText {
    Number(u64),
    Text(String),
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
        match NumberOrText::deserialize(deserializer)? {
            NumberOrText::Number(bytes) => Ok(ByteSize(bytes)),
            NumberOrText::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
