//! One request to a push gateway, and what its answer means (Push Gateway API `POST /_matrix/push/v1/notify`).

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use outbound::{Reach, Web, read_body};
use runtime::Clock;
use serde::Deserialize;

/// The largest answer that is read: it names one key at most that is ours.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// The longest pause that a gateway may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// Of how many gateways it is remembered that they failed.
const MAX_HELD: usize = 1_000;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The gateway has it.
    Taken,
    /// The pusher is to be removed.
    Rejected,
    /// It is to be tried again.
    Failed(Failure),
}

/// Why a request is to be tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Whether other requests to this gateway would fail as well.
    pub is_whole_gateway: bool,
    /// Whether the gateway does not want this very notification.
    pub is_refusal: bool,
    /// How long the gateway wants to be left alone.
    pub retry_after: Option<Duration>,
    /// For the log.
    pub reason: String,
}

impl Failure {
    fn unreachable(reason: impl std::fmt::Display) -> Delivery {
        let reason = reason.to_string();
        Delivery::Failed(Failure { is_whole_gateway: true, is_refusal: false, retry_after: None, reason })
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    rejected: Vec<String>,
}

/// Sends a notification about one pusher to its gateway, within `limit`. Dropping the future abandons the request.
pub(crate) async fn notify(
    web: &dyn Web,
    clock: &Clock,
    limit: Duration,
    url: &str,
    pushkey: &str,
    body: Vec<u8>,
) -> Delivery {
    let request = Request::post(url).header(header::CONTENT_TYPE, "application/json").body(Bytes::from(body));
    let request = match request {
        Ok(request) => request,
        Err(error) => return Failure::unreachable(error),
    };
    let begun = clock.monotonic();
    let response = match clock.timeout(limit, web.send(request, Reach::Guarded)).await {
        Some(Ok(response)) => response,
        Some(Err(error)) => return Failure::unreachable(error),
        None => return Failure::unreachable("no answer in time"),
    };
    let (head, body) = response.into_parts();
    if !head.status.is_success() {
        return judge_status(head.status, &head.headers);
    }
    let left = limit.saturating_sub(clock.monotonic().saturating_sub(begun));
    match read_body(body, MAX_ANSWER_BYTES, clock, left).await {
        Ok(answer) => judge_answer(&answer, pushkey),
        // It has taken it; whatever else it says, or does not say in time, is lost.
        Err(_) => Delivery::Taken,
    }
}

fn judge_answer(answer: &[u8], pushkey: &str) -> Delivery {
    // A gateway speaks only for the key that it was asked about.
    match serde_json::from_slice::<Answer>(answer) {
        Ok(answer) if answer.rejected.iter().any(|rejected| rejected == pushkey) => Delivery::Rejected,
        _ => Delivery::Taken,
    }
}

fn judge_status(status: StatusCode, headers: &HeaderMap) -> Delivery {
    let seconds = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let retry_after = seconds.map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
    let is_whole_gateway = matches!(status.as_u16(), 429 | 502..=504);
    // These say something about the gateway, or the moment; the others about what it was sent.
    let is_refusal = status.is_client_error() && !matches!(status.as_u16(), 401 | 403 | 404 | 408 | 410 | 429);
    let reason = format!("status {}", status.as_u16());
    Delivery::Failed(Failure { is_whole_gateway, is_refusal, retry_after, reason })
}

/// Gateways that failed lately. One of them with very many pushers is not tried for each.
#[derive(Debug, Default)]
pub(crate) struct Holds(HashMap<String, Hold>);

#[derive(Debug)]
struct Hold {
    failures: u32,
    until_ms: u64,
}

impl Holds {
    /// Until when a gateway is left alone, if it is.
    pub fn until(&self, url: &str, now_ms: u64) -> Option<u64> {
        self.0.get(origin(url)).map(|hold| hold.until_ms).filter(|until| *until > now_ms)
    }

    /// How often in a row a gateway failed.
    pub fn failures(&self, url: &str) -> u32 {
        self.0.get(origin(url)).map_or(0, |hold| hold.failures)
    }

    /// Leaves a gateway alone.
    pub fn hold(&mut self, url: &str, until_ms: u64, now_ms: u64) {
        if self.0.len() >= MAX_HELD && !self.0.contains_key(origin(url)) {
            self.0.retain(|_, hold| hold.until_ms > now_ms);
        }
        if self.0.len() < MAX_HELD || self.0.contains_key(origin(url)) {
            let hold = self.0.entry(origin(url).to_owned()).or_insert(Hold { failures: 0, until_ms: 0 });
            // Requests that were under way together fail together: they count once.
            if hold.until_ms <= now_ms {
                hold.failures = hold.failures.saturating_add(1);
            }
            hold.until_ms = hold.until_ms.max(until_ms);
        }
    }

    /// A gateway answered.
    pub fn release(&mut self, url: &str) {
        self.0.remove(origin(url));
    }
}

/// Scheme and host of a URL, as it is written.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |scheme| scheme + 3);
    let end = url.get(host..).and_then(|rest| rest.find('/')).map_or(url.len(), |end| host + end);
    url.get(..end).unwrap_or(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_key_can_be_rejected() {
        assert_eq!(judge_answer(br#"{"rejected":["a","key"]}"#, "key"), Delivery::Rejected);
        for taken in [br#"{"rejected":["other"]}"#.as_slice(), b"{}", b"", b"not json", br#"{"rejected":"key"}"#] {
            assert_eq!(judge_answer(taken, "key"), Delivery::Taken);
        }
    }

    #[test]
    fn what_a_status_says_of_the_gateway() {
        let failure = |status: u16, retry_after: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.extend(retry_after.map(|value| (header::RETRY_AFTER, http::HeaderValue::from_static(value))));
            match judge_status(StatusCode::from_u16(status).unwrap(), &headers) {
                Delivery::Failed(failure) => {
                    (failure.is_whole_gateway, failure.retry_after.map(|after| after.as_secs()))
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(failure(400, None), (false, None));
        assert_eq!(failure(302, None), (false, None), "redirects are not followed");
        assert_eq!(failure(503, Some("7")), (true, Some(7)));
        assert_eq!(failure(429, Some("999999")), (true, Some(3600)));
    }

    #[test]
    fn gateways_are_told_apart_by_their_host() {
        let mut holds = Holds::default();
        holds.hold("https://a.example/_matrix/push/v1/notify", 100, 0);
        holds.hold("https://a.example/_matrix/push/v1/notify", 90, 0);
        assert_eq!(holds.until("https://a.example/x", 99), Some(100));
        assert_eq!(holds.failures("https://a.example/x"), 1, "failures at one time count once");
        assert_eq!(holds.until("https://a.example/x", 100), None);
        assert_eq!(holds.until("https://b.example/x", 0), None);
        holds.release("https://a.example/y");
        assert_eq!(holds.failures("https://a.example/x"), 0);
        assert_eq!(origin("nonsense"), "nonsense");
    }
}
