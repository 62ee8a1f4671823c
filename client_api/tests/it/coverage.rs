//! Which test calls which endpoint with success. With `ENDPOINT_LOG=FILE` each such call adds a line to the file, from
//! which `UPDATE=1 cargo test -p client_api endpoints` writes `docs/endpoints.md`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;

use client_api::route_table;
use http::Method;

fn log_file() -> Option<OsString> {
    std::env::var_os("ENDPOINT_LOG")
}

/// Notes a call that succeeded. The name of a test is that of its thread.
pub fn note(method: &Method, path: &str) {
    let Some(file) = log_file() else { return };
    let thread = std::thread::current();
    let (Some(test), Some(route)) = (thread.name(), find_route(method, path)) else { return };
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
    // One write a line: tests run side by side.
    file.write_all(format!("{method} {route} {test}\n").as_bytes()).unwrap();
}

/// The path of the route that takes a request, with its arguments in braces; of several the one with fewest.
fn find_route(method: &Method, path: &str) -> Option<&'static str> {
    let is_argument = |part: &str| part.starts_with('{');
    let matches = |route: &str| {
        let (route, path): (Vec<&str>, Vec<&str>) = (route.split('/').collect(), path.split('/').collect());
        route.len() == path.len() && route.iter().zip(&path).all(|(route, path)| is_argument(route) || route == path)
    };
    let routes = route_table().into_iter().filter(|route| route.method == *method && matches(route.path));
    routes.map(|route| route.path).min_by_key(|path| path.split('/').filter(|part| is_argument(part)).count())
}

/// For each route that was noted the test with the first name, by method and path.
pub fn noted() -> Option<BTreeMap<(String, String), String>> {
    let text = std::fs::read_to_string(log_file()?).unwrap();
    let mut tests: BTreeMap<(String, String), String> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let (Some(method), Some(route), Some(test)) = (words.next(), words.next(), words.next()) else { continue };
        let known = tests.entry((method.to_owned(), route.to_owned())).or_insert_with(|| test.to_owned());
        if test < known.as_str() {
            *known = test.to_owned();
        }
    }
    Some(tests)
}
