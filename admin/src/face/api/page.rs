//! A page for people that lists the operations: one file without scripts, made from the registry.

use std::fmt::Write;
use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use http::header;

use super::BASE;
use crate::entry::Entry;
use crate::operation::{Effect, Needs};
use crate::operations::groups;

/// The page. It does not change while the server runs.
static PAGE: LazyLock<String> = LazyLock::new(build);

/// Nothing from anywhere, but the style within the page.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c1f24;\
                     background:#fff}h1{font-size:1.8rem}h2{margin-top:2.5rem;border-bottom:1px solid #d5d9e0}\
                     h3{margin:1.8rem 0 .3rem;font-size:1.05rem}code,pre{font:14px/1.45 ui-monospace,monospace;\
                     background:#f2f4f7;border-radius:4px}code{padding:.1rem .3rem}pre{padding:.8rem;overflow-x:auto}\
                     nav a{margin-right:.8rem;white-space:nowrap}table{border-collapse:collapse;margin:.5rem 0}\
                     td,th{text-align:left;vertical-align:top;padding:.2rem 1rem .2rem 0}.tag{font-size:.8rem;\
                     border:1px solid #b9c0cc;border-radius:4px;padding:0 .4rem;margin-left:.5rem;color:#4a5260}\
                     .destroys{color:#a3122c;border-color:#a3122c}@media(prefers-color-scheme:dark){body{color:#e4e7ec;\
                     background:#15181d}code,pre{background:#22262d}h2{border-color:#3a404a}a{color:#8ab4ff}\
                     .tag{color:#aab2bf;border-color:#4b5361}.destroys{color:#ff8a9b;border-color:#ff8a9b}}";

/// `GET /_conduit/docs`: for anybody, as it says nothing about this server.
pub(super) async fn get_page() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, PAGE.as_str()).into_response()
}

fn build() -> String {
    let mut page = String::new();
    // Writing into a string does not fail.
    let _ = write_page(&mut page);
    page
}

fn write_page(page: &mut String) -> std::fmt::Result {
    let groups = groups();
    write!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Administration of Conduit</title>"
    )?;
    write!(page, "<meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>")?;
    write!(
        page,
        "<h1>Administration of Conduit</h1><p>Every operation can be used in the admin room (<code>!admin …</code>), "
    )?;
    write!(
        page,
        "on the command line (<code>conduit admin …</code>) and over HTTP: <code>POST {BASE}/GROUP/VERB</code> with "
    )?;
    write!(
        page,
        "the arguments as a JSON object and the access token of an administrator; <code>GET</code> with query "
    )?;
    write!(page, "arguments for what only reads. The same as <a href=\"{BASE}/openapi.json\">OpenAPI</a>.</p><nav>")?;
    for group in &groups {
        write!(page, "<a href=\"#{0}\">{0}</a>", escape(group.name))?;
    }
    write!(page, "</nav>")?;
    for group in &groups {
        write!(page, "<h2 id=\"{0}\">{0}</h2><p>{1}</p>", escape(group.name), escape(group.about))?;
        for entry in &group.entries {
            write_entry(page, entry)?;
        }
    }
    write!(page, "</body></html>")
}

fn write_entry(page: &mut String, entry: &Entry) -> std::fmt::Result {
    let mut command = entry.command();
    let (group, verb) = (escape(entry.group), escape(entry.verb));
    write!(page, "<h3 id=\"{group}-{verb}\">{group} {verb}")?;
    if entry.effect == Effect::Destroys {
        write!(page, "<span class=\"tag destroys\">cannot be brought back</span>")?;
    }
    if entry.needs == Needs::Moderator {
        write!(page, "<span class=\"tag\">moderators too</span>")?;
    }
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    write!(page, "</h3><p>{}</p>", escape(&about))?;
    let usage = command.render_usage().to_string().replace("Usage: ", "");
    writeln!(page, "<pre>conduit admin {group} {}", escape(usage.trim()))?;
    if entry.effect == Effect::Reads {
        writeln!(page, "GET  {BASE}/{group}/{verb}")?;
    }
    write!(page, "POST {BASE}/{group}/{verb}</pre>")?;
    let arguments: Vec<_> = command.get_arguments().filter(|argument| argument.get_id() != "help").collect();
    if !arguments.is_empty() {
        write!(page, "<table><tr><th>Argument</th><th></th></tr>")?;
        for argument in arguments {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            let needed = if argument.is_required_set() { " <span class=\"tag\">required</span>" } else { "" };
            write!(page, "<tr><td><code>{}</code></td>", escape(argument.get_id().as_str()))?;
            write!(page, "<td>{}{needed}</td></tr>", escape(&help))?;
        }
        write!(page, "</table>")?;
    }
    Ok(())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
