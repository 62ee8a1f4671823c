//! Requests over HTTPS, found by discovery.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use http::header;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use outbound::{Pool, Reach, Web, WebClient};
use quick_cache::sync::Cache;
use runtime::{Clock, Random};
use spec::ids::ServerName;

use super::connect::FederationRoutes;
use super::{AnswerBody, Sending, Transport, TransportError};
use crate::discovery::well_known::{self, Answer, Remembered};
use crate::discovery::{Question, Walk};

/// How many hosts it is remembered of whether they delegate.
const REMEMBERED_HOSTS: usize = 10_000;
/// Finds servers and speaks HTTPS with them, over connections that are kept for a while. Must be made
/// and used inside a tokio runtime.
pub struct HttpsTransport {
    federation: Pool,
    web: WebClient,
    well_known: Cache<String, Remembered>,
}

impl HttpsTransport {
    /// With the network that a client of the web sees as strangers may; `random` draws the weights of SRV records.
    #[must_use]
    pub fn new(web: WebClient, random: Random) -> HttpsTransport {
        HttpsTransport {
            federation: Pool::new(web.guarded_network().clone(), Arc::new(FederationRoutes { random })),
            web,
            well_known: Cache::new(REMEMBERED_HOSTS),
        }
    }

    fn clock(&self) -> &Clock {
        self.web.guarded_network().clock()
    }

    /// Follows the way of a name up to where the `.well-known` document has no more say.
    async fn find_host(&self, name: &ServerName) -> Result<ServerName, TransportError> {
        let unreachable = |error: crate::discovery::DiscoveryError| TransportError::Unreachable(error.to_string());
        let mut walk = Walk::start(name).map_err(unreachable)?;
        loop {
            if let Some(host) = walk.host_header() {
                return Ok(host.clone());
            }
            let Question::WellKnown(host) = walk.question() else {
                return Err(TransportError::BadAddress(name.to_string()));
            };
            let delegated = self.ask_well_known(host).await;
            walk = walk.tell_well_known(delegated.as_ref()).map_err(unreachable)?;
        }
    }

    /// What a host delegates to, from memory as long as that holds. One asks, the others wait for it.
    async fn ask_well_known(&self, host: &str) -> Option<ServerName> {
        let key = host.to_ascii_lowercase();
        let now_ms = self.clock().now_ms();
        let before = match self.well_known.get(&key) {
            Some(known) if known.fresh_until_ms > now_ms => return known.delegated,
            before => before,
        };
        self.well_known.remove_if(&key, |known| known.fresh_until_ms <= now_ms);
        match self.well_known.get_value_or_guard_async(&key).await {
            Ok(known) => known.delegated,
            Err(guard) => {
                let fetching = self.fetch_well_known(&key);
                let answer = self.clock().timeout(well_known::FETCH_TIMEOUT, fetching).await;
                let answer = answer.unwrap_or(Answer::Failed);
                tracing::debug!(%host, ?answer, "asked for the .well-known document");
                let known = Remembered::after(answer, before.as_ref(), self.clock().now_ms());
                // Fails only if the entry was taken out meanwhile, and then nothing is remembered.
                let _ = guard.insert(known.clone());
                known.delegated
            }
        }
    }

    async fn fetch_well_known(&self, host: &str) -> Answer {
        match format!("https://{host}/.well-known/matrix/server").parse() {
            Ok(url) => self.follow_well_known(url).await,
            Err(_) => Answer::Absent,
        }
    }

    async fn follow_well_known(&self, mut url: Uri) -> Answer {
        for _ in 0..=well_known::MAX_REDIRECTS {
            let response = match self.get_web(url.clone()).await {
                Ok(response) => response,
                Err(TransportError::Unreachable(_)) => return Answer::Failed,
                Err(_) => return Answer::Absent,
            };
            match response.status() {
                StatusCode::OK => return read_well_known(response, self.clock().now_ms()).await,
                status if status.is_redirection() => match redirect_target(&url, &response) {
                    Some(next) => url = next,
                    None => return Answer::Absent,
                },
                status if status.is_server_error() => return Answer::Failed,
                _ => return Answer::Absent,
            }
        }
        Answer::Absent
    }

    async fn get_web(&self, url: Uri) -> Result<Response<AnswerBody>, TransportError> {
        if url.scheme() != Some(&Scheme::HTTPS) {
            return Err(TransportError::BadAddress(url.to_string()));
        }
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = url;
        self.web.send(request, Reach::Guarded).await
    }
}

impl Transport for HttpsTransport {
    fn send(&self, destination: ServerName, request: Request<Bytes>) -> Sending<'_> {
        Box::pin(async move {
            let host = self.find_host(&destination).await?;
            let (mut head, body) = request.into_parts();
            let bad = || TransportError::BadAddress(destination.to_string());
            let path = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
            let authority = Authority::try_from(host.as_str()).map_err(|_| bad())?;
            let uri = Uri::builder().scheme(Scheme::HTTPS).authority(authority).path_and_query(path);
            head.uri = uri.build().map_err(|_| bad())?;
            self.federation.send(Request::from_parts(head, body)).await
        })
    }

    fn get_url(&self, url: Uri) -> Sending<'_> {
        Box::pin(self.get_web(url))
    }
}

/// Where a redirect leads, if it is an `https` address.
pub(crate) fn redirect_target<B>(from: &Uri, response: &Response<B>) -> Option<Uri> {
    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
    if let Some(path) = location.strip_prefix('/').filter(|rest| !rest.starts_with('/')) {
        let path = PathAndQuery::try_from(format!("/{path}")).ok()?;
        let uri = Uri::builder().scheme(Scheme::HTTPS).authority(from.authority()?.clone()).path_and_query(path);
        return uri.build().ok();
    }
    let target: Uri = match location.strip_prefix("//") {
        Some(rest) => format!("https://{rest}").parse().ok()?,
        None => location.parse().ok()?,
    };
    (target.scheme() == Some(&Scheme::HTTPS)).then_some(target)
}

async fn read_well_known(response: Response<AnswerBody>, now_ms: u64) -> Answer {
    let max_age_ms = well_known::read_max_age_ms(response.headers(), now_ms);
    let body = Limited::new(response.into_body(), well_known::MAX_DOCUMENT_BYTES).collect().await;
    let delegated = body.ok().and_then(|body| well_known::read_document(&body.to_bytes()));
    delegated.map_or(Answer::Absent, |to| Answer::Delegated { to, max_age_ms })
}
