//! What both HTTP faces need: who calls, bodies and queries with bounds, answers, and errors in Matrix form.

mod caller;
mod reading;
mod refusal;

use axum::Router;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, StatusCode, header};
use tower::util::MapResponseLayer;

use crate::admin::Admin;

pub(crate) use caller::{CallerDevice, RouteNeeds};
pub use caller::{SynapseCaller, find_caller};
pub use reading::{Args, JsonBody, Query, answer, read_body, read_object};
pub use refusal::{Answer, Refusal};

/// The answers that all routes share: for other methods, and the headers that let web clients of any origin in
/// (Client-Server API §"Web Browser Clients").
pub(crate) fn finish(router: Router<Admin>) -> Router<Admin> {
    router.method_not_allowed_fallback(refuse_method).layer(MapResponseLayer::new(allow_all_origins))
}

async fn refuse_method(method: Method) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    let message = "this method is not supported here";
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "M_UNRECOGNIZED", message).into_response()
}

fn allow_all_origins(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    let methods = HeaderValue::from_static("GET, POST, PUT, DELETE, OPTIONS, HEAD");
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    let names = HeaderValue::from_static("X-Requested-With, Content-Type, Authorization");
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
    response
}
