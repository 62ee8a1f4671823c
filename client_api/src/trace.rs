//! A span around each request, at debug level: method and path, never the query, which may hold a token.

use std::task::{Context, Poll};

use http::Request;
use tower::{Layer, Service};
use tracing::Instrument;
use tracing::instrument::Instrumented;

/// Wraps services in [`Traced`].
#[derive(Clone, Copy)]
pub(crate) struct TraceRequests;

/// A service whose requests have spans.
#[derive(Clone)]
pub(crate) struct Traced<S>(S);

impl<S> Layer<S> for TraceRequests {
    type Service = Traced<S>;

    fn layer(&self, inner: S) -> Traced<S> {
        Traced(inner)
    }
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Traced<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Instrumented<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let span = tracing::debug_span!("request", method = %request.method(), path = request.uri().path());
        self.0.call(request).instrument(span)
    }
}
