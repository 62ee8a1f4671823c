//! What the answer to `GET /.well-known/matrix/server` means, and for how long (Server-Server API
//! §Resolving server names, step 3).

#[cfg(test)]
mod tests;

use std::time::Duration;

use http::{HeaderMap, header};
use serde::Deserialize;
use spec::ids::ServerName;

/// The largest document that is read.
pub(crate) const MAX_DOCUMENT_BYTES: usize = 50 * 1024;
/// How long the whole of it may take, redirects included.
pub(crate) const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// How many redirects are followed.
pub(crate) const MAX_REDIRECTS: usize = 5;

const MINUTE_MS: u64 = 60 * 1000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
/// How long a document holds that does not say.
const DEFAULT_MS: u64 = 24 * HOUR_MS;
/// The longest that a document holds, whatever it says.
pub(crate) const MAX_MS: u64 = 48 * HOUR_MS;
/// The shortest, so that a `no-cache` does not double every request.
const MIN_MS: u64 = 5 * MINUTE_MS;
/// How long it holds that there is no document.
const ABSENT_MS: u64 = HOUR_MS;
/// When it is tried again after the first failure; doubled with each further one.
const FIRST_RETRY_MS: u64 = MINUTE_MS;

/// What came of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A valid document.
    Delegated {
        /// `m.server`.
        to: ServerName,
        /// How long it may be relied on, as its headers say.
        max_age_ms: Option<u64>,
    },
    /// An answer that delegates nothing: an error status, or no valid document.
    Absent,
    /// No answer, or a server error: perhaps there is a document.
    Failed,
}

/// What is remembered of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// The name it delegates to; `None` if it does not.
    pub(crate) delegated: Option<ServerName>,
    /// When `delegated` was learnt, in milliseconds since the Unix epoch.
    learnt_ms: u64,
    /// When it has to be asked again.
    pub(crate) fresh_until_ms: u64,
    /// How many times in a row there was no answer.
    failures: u32,
}

impl Remembered {
    /// What to remember after an answer, given what was remembered before.
    pub(crate) fn after(answer: Answer, before: Option<&Remembered>, now_ms: u64) -> Remembered {
        match answer {
            Answer::Delegated { to, max_age_ms } => {
                let lasts = max_age_ms.unwrap_or(DEFAULT_MS).clamp(MIN_MS, MAX_MS);
                Remembered {
                    delegated: Some(to),
                    learnt_ms: now_ms,
                    fresh_until_ms: now_ms.saturating_add(lasts),
                    failures: 0,
                }
            }
            Answer::Absent => Remembered {
                delegated: None,
                learnt_ms: now_ms,
                fresh_until_ms: now_ms.saturating_add(ABSENT_MS),
                failures: 0,
            },
            Answer::Failed => Remembered::after_failure(before, now_ms),
        }
    }

    /// A server that delegates and whose web server is down has not moved: what was learnt goes on
    /// holding, but no longer than it ever may.
    fn after_failure(before: Option<&Remembered>, now_ms: u64) -> Remembered {
        let failures = before.map_or(0, |before| before.failures);
        let pause = FIRST_RETRY_MS.saturating_mul(1 << failures.min(10)).min(HOUR_MS);
        let known = before.filter(|before| before.learnt_ms.saturating_add(MAX_MS) > now_ms);
        Remembered {
            delegated: known.and_then(|known| known.delegated.clone()),
            learnt_ms: known.map_or(now_ms, |known| known.learnt_ms),
            fresh_until_ms: now_ms.saturating_add(pause),
            failures: failures.saturating_add(1),
        }
    }
}

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "m.server")]
    server: String,
}

/// Reads a document; `None` if it is not valid.
pub(crate) fn read_document(body: &[u8]) -> Option<ServerName> {
    let document: Document = serde_json::from_slice(body).ok()?;
    ServerName::parse(document.server).ok()
}

/// For how long the headers let a response be kept, in milliseconds. `now_ms` serves to read `Expires`.
pub(crate) fn read_max_age_ms(headers: &HeaderMap, now_ms: u64) -> Option<u64> {
    let control = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut max_age = None;
    for directive in control.flat_map(|value| value.split(',')) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        let name = name.trim().to_ascii_lowercase();
        if name == "no-store" || name == "no-cache" {
            return Some(0);
        }
        if name == "max-age" {
            max_age = value.trim().trim_matches('"').parse::<u64>().ok();
        }
    }
    if let Some(seconds) = max_age {
        return Some(seconds.saturating_mul(1000));
    }
    let expires = headers.get(header::EXPIRES)?.to_str().ok()?;
    // "0" and other text that is no date means "already expired" (RFC 9111 §5.3).
    Some(parse_http_date_ms(expires).map_or(0, |at| at.saturating_sub(now_ms)))
}

/// An HTTP date in its one current form, `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(crate) fn parse_http_date_ms(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, rest) = text.trim().split_once(", ")?;
    let mut parts = rest.split_ascii_whitespace();
    let day: u64 = parts.next()?.parse().ok().filter(|day| (1..=31).contains(day))?;
    let month_name = parts.next()?;
    let month = u64::try_from(MONTHS.iter().position(|month| *month == month_name)?).ok()? + 1;
    let year: u64 = parts.next()?.parse().ok().filter(|year| (1970..=9999).contains(year))?;
    let mut clock = parts.next()?.splitn(3, ':').map(|part| part.parse::<u64>().ok().filter(|part| *part <= 60));
    let (hours, minutes, seconds) = (clock.next()??, clock.next()??, clock.next()??);
    // Days since the epoch of a proleptic Gregorian date, with years that begin in March.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468;
    Some((((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000)
}
