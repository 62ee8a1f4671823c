//! Moments: dates, ages and numbers.

use std::borrow::Cow;
use std::str::FromStr;

use runtime::config::Span;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::NumberOrText;
use crate::outcome::format_time;

const DAY_MS: u64 = 86_400_000;

/// A moment: `2026-01-31`, `2026-01-31T12:00` (UTC), `30d` (so long ago, or from now on, as the operation says), or
/// milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Milliseconds since 1970.
    At(u64),
    /// A distance from now, in milliseconds.
    Distance(u64),
}

impl When {
    /// The moment, where a distance means so long ago. In milliseconds since 1970.
    #[must_use]
    pub fn in_the_past(self, now_ms: u64) -> u64 {
        match self {
            When::At(ms) => ms,
            When::Distance(ms) => now_ms.saturating_sub(ms),
        }
    }

    /// The moment, where a distance means so long from now. In milliseconds since 1970.
    #[must_use]
    pub fn in_the_future(self, now_ms: u64) -> u64 {
        match self {
            When::At(ms) => ms,
            When::Distance(ms) => now_ms.saturating_add(ms),
        }
    }
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Ok(ms) = text.parse::<u64>() {
            return Ok(When::At(ms));
        }
        if let Ok(span) = text.parse::<Span>() {
            return Ok(When::Distance(u64::try_from(span.duration().as_millis()).unwrap_or(u64::MAX)));
        }
        parse_date(text)
            .map(When::At)
            .ok_or_else(|| "expected 2026-01-31, 2026-01-31T12:00, 30d or milliseconds since 1970".to_owned())
    }
}

/// `2026-01-31`, with `T12:00` or `T12:00:30` behind it, and `Z` if somebody likes.
fn parse_date(text: &str) -> Option<u64> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let mut parts = date.split('-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let mut clock = time.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next().unwrap_or(Some(0))?);
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let last_day = match month {
        2 => 28 + u64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let exists = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=last_day).contains(&day);
    if !exists || hour > 23 || minute > 59 || second > 59 || parts.next().is_some() || clock.next().is_some() {
        return None;
    }
    // Years that begin in March, as in the way back.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(days * DAY_MS + (hour * 3600 + minute * 60 + second) * 1000)
}

/// A date that reads as this moment again, if there is one.
fn format_exactly(ms: u64) -> Option<String> {
    let text = format_time(ms);
    let date = text.strip_suffix(" 00:00:00").unwrap_or(&text).replace(' ', "T");
    (parse_date(&date) == Some(ms)).then_some(date)
}

/// A distance as people write it: `30d`, `1h 30m`.
fn format_distance(ms: u64) -> String {
    let mut rest = ms;
    let mut parts = Vec::new();
    for (unit, length) in [("d", DAY_MS), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        let count = rest / length;
        rest %= length;
        if count > 0 {
            parts.push(format!("{count}{unit}"));
        }
    }
    if parts.is_empty() { "0ms".to_owned() } else { parts.join(" ") }
}

impl Serialize for When {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            When::At(ms) => match format_exactly(*ms) {
                Some(date) => serializer.serialize_str(&date),
                None => serializer.serialize_u64(*ms),
            },
            When::Distance(ms) => serializer.serialize_str(&format_distance(*ms)),
        }
    }
}

impl<'de> Deserialize<'de> for When {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match NumberOrText::deserialize(deserializer)? {
            NumberOrText::Number(ms) => Ok(When::At(ms)),
            NumberOrText::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

impl JsonSchema for When {
    fn schema_name() -> Cow<'static, str> {
        "When".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}],
            "description": "milliseconds since 1970, a date such as `2026-01-31`, or a distance from now such as `30d`",
        })
    }
}
