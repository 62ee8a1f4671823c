//! Several whole servers in one process, which find each other by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use federation::{Transport, TransportError};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use spec::ids::ServerName;

use crate::{HttpAddress, HttpClient, HttpError};

type Sending<'a> =
    std::pin::Pin<Box<dyn Future<Output = Result<Response<federation::AnswerBody>, TransportError>> + Send + 'a>>;

/// The way between the servers of a test: real requests to their sockets. It knows nobody else. A cheap handle.
#[derive(Clone, Default)]
pub struct Neighbours(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    servers: BTreeMap<String, HttpAddress>,
    asked: Vec<String>,
}

impl Neighbours {
    /// Adds a server.
    pub(crate) fn add(&self, name: &str, address: HttpAddress) {
        self.0.lock().servers.insert(name.to_owned(), address);
    }

    /// How many requests between the servers were for a path with this part.
    #[must_use]
    pub fn count_asked(&self, part: &str) -> usize {
        self.0.lock().asked.iter().filter(|path| path.contains(part)).count()
    }
}

impl Transport for Neighbours {
    fn send(&self, destination: ServerName, request: Request<Bytes>) -> Sending<'_> {
        let mut inner = self.0.lock();
        inner.asked.push(request.uri().path().to_owned());
        let address = inner.servers.get(destination.as_str()).cloned();
        drop(inner);
        Box::pin(async move {
            let address = address.ok_or_else(|| TransportError::Unreachable("there is no such server".into()))?;
            let forwarded = tokio::task::spawn_blocking(move || forward(address, &request)).await;
            let failed = TransportError::Unreachable;
            forwarded.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
        })
    }

    fn get_url(&self, _: Uri) -> Sending<'_> {
        Box::pin(std::future::ready(Err(TransportError::Unreachable("there is no web".into()))))
    }
}

fn forward(address: HttpAddress, request: &Request<Bytes>) -> Result<Response<federation::AnswerBody>, HttpError> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let headers: Vec<(&str, &str)> =
        request.headers().iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect();
    let body = Some(request.body().as_ref()).filter(|body| !body.is_empty());
    let answer = HttpClient::new(address).request_with(request.method().as_str(), path, &headers, body)?;
    let mut response = Response::builder().status(answer.status);
    for (name, value) in answer.headers.iter().filter(|(name, _)| name != "transfer-encoding") {
        response = response.header(name, value);
    }
    let body = Full::new(Bytes::from(answer.body)).map_err(|never| match never {}).boxed();
    response.body(body).map_err(|_| HttpError::Malformed("header"))
}
