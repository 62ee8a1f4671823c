//! Fetching pages and images that strangers named.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use outbound::{AnswerBody, Reach, Web, read_body, read_prefix};
use runtime::Clock;
use spec::push::glob::Glob;
use url::Url;

use crate::config::MediaConfig;
use crate::error::MediaError;

/// How often a page may lead elsewhere.
const MAX_REDIRECTS: usize = 5;
const ACCEPT: HeaderValue = HeaderValue::from_static("text/html,application/xhtml+xml;q=0.9,image/*;q=0.8,*/*;q=0.1");

/// Fetches within the operator's limits.
pub(super) struct Fetcher {
    web: Arc<dyn Web>,
    clock: Clock,
    allowed: Vec<Glob>,
    denied: Vec<Glob>,
    timeout: Duration,
    max_image: usize,
}

/// What is at a URL, by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Page,
    Image,
    Other,
}

/// An answer whose head has been read.
pub(super) struct Opened {
    /// Where the redirects ended.
    pub url: Url,
    pub kind: Kind,
    pub content_type: Option<String>,
    pub body: AnswerBody,
}

impl Fetcher {
    pub(super) fn new(web: Arc<dyn Web>, clock: Clock, config: &MediaConfig) -> Fetcher {
        let globs = |patterns: &[String]| patterns.iter().map(|pattern| Glob::new(pattern)).collect();
        Fetcher {
            web,
            clock,
            allowed: globs(&config.url_preview_allowed),
            denied: globs(&config.url_preview_denied),
            timeout: config.url_preview_timeout.duration(),
            max_image: usize::try_from(config.url_preview_max_image.bytes()).unwrap_or(usize::MAX),
        }
    }

    /// Whether a URL may be fetched. Addresses are looked at when they are connected to.
    pub(super) fn check(&self, url: &Url) -> Result<(), MediaError> {
        let host = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https"));
        let host = host.filter(|_| url.username().is_empty() && url.password().is_none());
        // A last dot would make another text of the same host.
        let host = host.map(|host| host.trim_end_matches('.')).ok_or(MediaError::InvalidUrl)?;
        let place = format!(
            "{host}{}{}{}",
            url.path(),
            if url.query().is_some() { "?" } else { "" },
            url.query().unwrap_or_default()
        );
        let is_in = |globs: &[Glob]| globs.iter().any(|glob| glob.matches(host) || glob.matches(&place));
        if is_in(&self.denied) || (!self.allowed.is_empty() && !is_in(&self.allowed)) {
            return Err(MediaError::UrlDenied);
        }
        Ok(())
    }

    /// Asks for a URL and follows its redirects, each of them checked.
    pub(super) async fn open(&self, url: Url) -> Result<Opened, MediaError> {
        let opened = self.clock.timeout(self.timeout, self.follow(url)).await;
        opened.unwrap_or(Err(MediaError::PageUnavailable))
    }

    async fn follow(&self, mut url: Url) -> Result<Opened, MediaError> {
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.ask(&url).await?;
            if answer.status().is_success() {
                return read_head(url, answer);
            }
            if !answer.status().is_redirection() {
                tracing::debug!(host = url.host_str(), status = answer.status().as_u16(), "no page for a preview");
                return Err(MediaError::PageUnavailable);
            }
            let location = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let next = location.and_then(|location| url.join(location).ok()).ok_or(MediaError::PageUnavailable)?;
            url = next;
            url.set_fragment(None);
            self.check(&url).map_err(|error| match error {
                MediaError::InvalidUrl => MediaError::PageUnavailable,
                error => error,
            })?;
        }
        Err(MediaError::PageUnavailable)
    }

    async fn ask(&self, url: &Url) -> Result<Response<AnswerBody>, MediaError> {
        let request = Request::get(url.as_str()).header(header::ACCEPT, ACCEPT).body(Bytes::new());
        let request = request.map_err(|_| MediaError::InvalidUrl)?;
        self.web.send(request, Reach::Guarded).await.map_err(|error| {
            tracing::debug!(host = url.host_str(), %error, "no page for a preview");
            MediaError::PageUnavailable
        })
    }

    /// The whole of a small body.
    pub(super) async fn read(&self, body: AnswerBody) -> Result<Bytes, MediaError> {
        let read = read_body(body, self.max_image, &self.clock, self.timeout).await;
        read.map_err(|_| MediaError::PageUnavailable)
    }

    /// The beginning of a body.
    pub(super) async fn read_prefix(&self, body: AnswerBody, limit: usize) -> Result<Bytes, MediaError> {
        let read = read_prefix(body, limit, &self.clock, self.timeout).await;
        read.map_err(|_| MediaError::PageUnavailable)
    }

    /// The bytes of an image that a page named.
    pub(super) async fn fetch_image(&self, url: Url) -> Result<Bytes, MediaError> {
        self.check(&url)?;
        let Opened { kind, body, .. } = self.open(url).await?;
        match kind {
            Kind::Image => self.read(body).await,
            Kind::Page | Kind::Other => Err(MediaError::PageUnavailable),
        }
    }
}

fn read_head(url: Url, answer: Response<AnswerBody>) -> Result<Opened, MediaError> {
    let text = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
    // None was asked for, so there is nothing to decode with.
    if text(header::CONTENT_ENCODING).is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
        return Err(MediaError::PageUnavailable);
    }
    let content_type = text(header::CONTENT_TYPE).map(str::to_ascii_lowercase);
    let essence = content_type.as_deref().and_then(|text| text.split(';').next()).unwrap_or_default().trim();
    let kind = match essence {
        "text/html" | "application/xhtml+xml" => Kind::Page,
        image if image.starts_with("image/") => Kind::Image,
        _ => Kind::Other,
    };
    Ok(Opened { url, kind, content_type, body: answer.into_body() })
}
