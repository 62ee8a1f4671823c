//! The HTTP face in a form of its own: `POST /_conduit/admin/v1/{group}/{verb}` with the arguments as a JSON object, and
//! `GET` with query arguments for what only reads. Described by OpenAPI, from the same registry.

mod openapi;
mod page;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::get;
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::{Map, Value};

use crate::admin::Admin;
use crate::caller::Face;
use crate::entry::{Entry, Prepared};
use crate::http::{Answer, Args, Query, Refusal, answer, find_caller, read_body, read_object};
use crate::operation::Effect;
use crate::operations::find;
use crate::outcome::{File, Outcome};

/// Where the operations are.
pub(crate) const BASE: &str = "/_conduit/admin/v1";

/// The router of this face.
pub(crate) fn router() -> Router<Admin> {
    Router::new()
        .route("/_conduit/admin/v1/openapi.json", get(openapi::get_document))
        .route("/_conduit/docs", get(page::get_page))
        .route("/_conduit/admin/v1/{group}/{verb}", get(perform).post(perform))
}

/// Performs an operation.
async fn perform(State(admin): State<Admin>, Args((group, verb)): Args<(String, String)>, request: Request) -> Answer {
    let (mut parts, body) = request.into_parts();
    let caller = find_caller(&mut parts, &admin, Face::Http).await?;
    let unknown = || {
        let message = format!("there is no operation {group} {verb}: see {BASE}/openapi.json");
        Refusal::new(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", message)
    };
    let entry = find(&group, &verb).ok_or_else(unknown)?;
    let prepared = match parts.method {
        Method::POST => read_arguments(&entry, body).await?,
        _ if entry.effect == Effect::Reads => read_query(&entry, &Query::of(parts.uri))?,
        _ => {
            let message = "this changes something: send it by POST";
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "M_UNRECOGNIZED", message));
        }
    };
    match admin.perform(&caller, prepared).await? {
        Outcome::File(file) => Ok(answer_file(file)),
        outcome => answer(&outcome.to_json()),
    }
}

async fn read_arguments(entry: &Entry, body: Body) -> Result<Prepared, Refusal> {
    let arguments = read_object(&read_body(body).await?)?;
    Ok(entry.read(arguments)?)
}

/// Reads query arguments, by the types of the schema: in a query everything is text.
fn read_query(entry: &Entry, query: &Query) -> Result<Prepared, Refusal> {
    let schema = openapi::schema_of(entry);
    let mut arguments = Map::new();
    for pair in query.pairs() {
        let (name, text) = pair?;
        if name == "access_token" {
            continue;
        }
        let wanted = schema.pointer(&format!("/properties/{name}")).unwrap_or(&Value::Null);
        if has_type(wanted, "array") {
            let items = wanted.get("items").unwrap_or(&Value::Null);
            let list = arguments.entry(name.into_owned()).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                list.push(read_value(&text, items));
            }
        } else {
            arguments.insert(name.into_owned(), read_value(&text, wanted));
        }
    }
    Ok(entry.read(arguments)?)
}

fn read_value(text: &str, wanted: &Value) -> Value {
    let number = has_type(wanted, "integer") || has_type(wanted, "number");
    let parsed = (number || has_type(wanted, "boolean")).then(|| serde_json::from_str::<Value>(text).ok()).flatten();
    match parsed {
        Some(value @ (Value::Number(_) | Value::Bool(_))) => value,
        _ => text.into(),
    }
}

fn has_type(schema: &Value, name: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(only)) => only == name,
        Some(Value::Array(several)) => several.iter().any(|one| one == name),
        // A number of a type of its own, such as that of a job.
        _ => false,
    }
}

fn answer_file(file: File) -> Response {
    let name: String = file.name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
    let mut response = Response::new(Body::from(file.bytes));
    let headers = response.headers_mut();
    let fallback = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, HeaderValue::try_from(file.mime).unwrap_or(fallback));
    if let Ok(disposition) = HeaderValue::try_from(format!("attachment; filename=\"{name}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;
