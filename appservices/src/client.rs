//! Requests to services (Application Service API §"Authorisation", §"Legacy routes").

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use outbound::{BodyError, Reach, Web, WebError, read_body};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use runtime::Clock;
use serde::Deserialize;
use users::{AppService, AppServiceFailure};

/// How much of a failed answer is kept, in bytes.
const MAX_QUOTED: usize = 1_024;
/// What stands for itself in a part of a path or query.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Encodes a part of a path or query.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

/// One request.
pub(crate) struct Call {
    pub method: Method,
    /// Below the service's URL, with its query.
    pub path: String,
    /// Where services from before specification v1.4 (and r0) have it.
    pub legacy: Option<String>,
    /// Empty for none.
    pub body: Bytes,
    /// For the whole exchange.
    pub timeout: Duration,
    /// The most bytes of the answer.
    pub max_answer: usize,
}

#[derive(Clone)]
pub(crate) struct ServiceClient {
    web: Arc<dyn Web>,
    clock: Clock,
}

impl ServiceClient {
    pub fn new(web: Arc<dyn Web>, clock: Clock) -> ServiceClient {
        ServiceClient { web, clock }
    }

    /// Sends a request, by the old route if the service does not know the new one; gives the body of a 200.
    pub async fn call(&self, service: &AppService, call: &Call) -> Result<Bytes, AppServiceFailure> {
        match self.send(service, call, &call.path).await {
            Err(AppServiceFailure::BadStatus { status, body }) if is_unknown_route(status, &body) => {
                let Some(legacy) = &call.legacy else { return Err(AppServiceFailure::BadStatus { status, body }) };
                // Services that old know the token by the query only.
                let separator = if legacy.contains('?') { '&' } else { '?' };
                let path = format!("{legacy}{separator}access_token={}", encode(service.hs_token()));
                self.send(service, call, &path).await
            }
            answer => answer,
        }
    }

    async fn send(&self, service: &AppService, call: &Call, path: &str) -> Result<Bytes, AppServiceFailure> {
        let url = service.url().ok_or(AppServiceFailure::NoUrl)?;
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(format!("{url}{path}"))
            .header(header::AUTHORIZATION, format!("Bearer {}", service.hs_token()));
        if !call.body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(call.body.clone()).map_err(|_| unreachable("its URL cannot be asked"))?;
        let began = self.clock.monotonic();
        let sending = self.clock.timeout(call.timeout, self.web.send(request, Reach::Anywhere));
        let answer = sending.await.ok_or(AppServiceFailure::Timeout)?.map_err(|error| describe(&error))?;
        let (head, body) = answer.into_parts();
        let left = call.timeout.saturating_sub(self.clock.monotonic().saturating_sub(began));
        let read = read_body(body, call.max_answer, &self.clock, left).await;
        if head.status == http::StatusCode::OK {
            return read.map_err(|error| match error {
                BodyError::Timeout => AppServiceFailure::Timeout,
                BodyError::TooLarge => AppServiceFailure::Malformed,
                BodyError::Broken(reason) => AppServiceFailure::Unreachable(reason),
            });
        }
        let body = read.unwrap_or_default();
        let quoted = body.get(..MAX_QUOTED).unwrap_or(&body);
        let body = String::from_utf8_lossy(quoted).into_owned();
        Err(AppServiceFailure::BadStatus { status: head.status.as_u16(), body })
    }
}

fn unreachable(reason: &str) -> AppServiceFailure {
    AppServiceFailure::Unreachable(reason.to_owned())
}

fn describe(error: &WebError) -> AppServiceFailure {
    match error {
        WebError::Unreachable(reason) | WebError::PrivateAddress(reason) => unreachable(reason),
        // The address itself may hold what the operator wants nobody to see.
        WebError::BadAddress(_) => unreachable("its URL cannot be asked"),
    }
}

/// Whether an answer says that there is no such route, rather than that there is no such thing.
fn is_unknown_route(status: u16, body: &str) -> bool {
    #[derive(Deserialize)]
    struct Answer {
        errcode: String,
    }
    if !matches!(status, 404 | 405 | 501) {
        return false;
    }
    serde_json::from_str::<Answer>(body).map_or(true, |answer| answer.errcode == "M_UNRECOGNIZED")
}
