//! The web, as far as tests of this edge need it.

use std::collections::HashMap;
use std::sync::Mutex;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use outbound::{Reach, Sending, Web, WebError};

/// Pages by their URL, with their content type; what was asked for is written down.
#[derive(Default)]
pub struct Pages {
    pages: Mutex<HashMap<String, (&'static str, Vec<u8>)>>,
    asked: Mutex<Vec<String>>,
}

impl Pages {
    pub fn put(&self, url: &str, content_type: &'static str, content: &[u8]) {
        self.pages.lock().unwrap().insert(url.to_owned(), (content_type, content.to_vec()));
    }

    /// What was asked for since the last time.
    pub fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl Web for Pages {
    fn send(&self, request: Request<Bytes>, reach: Reach) -> Sending<'_> {
        assert_eq!(reach, Reach::Guarded, "clients named {}", request.uri());
        let url = request.uri().to_string();
        let page = self.pages.lock().unwrap().get(&url).cloned();
        self.asked.lock().unwrap().push(url);
        let answer = page.ok_or_else(|| WebError::unreachable("no such host")).map(|(content_type, content)| {
            let body = Full::new(Bytes::from(content)).map_err(|never| match never {}).boxed();
            Response::builder().header("content-type", content_type).body(body).unwrap()
        });
        Box::pin(std::future::ready(answer))
    }
}
