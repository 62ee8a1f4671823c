//! What the server says in the admin room: the same text plain and as HTML. All that comes from outside is escaped.

use runtime::config::Span;

use crate::outcome::{Cell, Outcome, Table};

/// The longest answer that is a message, in characters; longer ones become a file.
pub(super) const MAX_MESSAGE_CHARS: usize = 4_000;
/// The most bytes of HTML of a message: an event has 65,536 bytes, and an edit says it twice.
const MAX_HTML_BYTES: usize = 20_000;

/// A text to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// Plain.
    pub plain: String,
    /// The same as HTML (Client-Server API §m.room.message msgtypes).
    pub html: String,
    /// It holds a secret, and is removed from the room after a while: what is said of that.
    pub passing: Option<String>,
}

impl Page {
    /// Sentences.
    pub fn text(plain: impl Into<String>) -> Page {
        let plain = plain.into();
        let html = escape(&plain).replace('\n', "<br>");
        Page { plain, html, passing: None }
    }

    /// Text in columns, such as help: its line breaks and spaces are kept.
    pub fn columns(plain: impl Into<String>) -> Page {
        let plain = plain.into();
        let html = format!("<pre><code>{}</code></pre>", escape(&plain));
        Page { plain, html, passing: None }
    }

    /// What an operation answers. A file is only described.
    pub fn of(outcome: &Outcome) -> Page {
        let plain = outcome.to_string();
        let html = match outcome {
            Outcome::Line(_) | Outcome::File(_) => return Page::text(plain),
            Outcome::Record(fields) => write_record(fields),
            Outcome::Table(table) if table.rows().is_empty() => return Page::text(plain),
            Outcome::Table(table) => write_table(table),
        };
        Page { plain, html, passing: None }
    }

    /// This, and another below it.
    pub fn and(self, below: &Page) -> Page {
        let plain = format!("{}\n{}", self.plain, below.plain);
        Page { plain, html: format!("{}<br>{}", self.html, below.html), passing: self.passing }
    }

    /// The same, as something that is removed after so long.
    pub fn removed_after(self, shown: Span) -> Page {
        let minutes = shown.duration().as_secs().div_ceil(60);
        let passing = format!("This holds a secret and is removed from the room in {minutes} min: keep it elsewhere.");
        Page { passing: Some(passing), ..self }
    }

    /// With what is said of its removal.
    pub fn with_notice(self) -> Page {
        match self.passing.clone() {
            Some(passing) => self.and(&Page::text(passing)),
            None => self,
        }
    }

    /// Whether it is too long for a message.
    pub fn is_long(&self) -> bool {
        self.html.len() > MAX_HTML_BYTES || self.plain.chars().nth(MAX_MESSAGE_CHARS).is_some()
    }
}

/// Text as it may stand in HTML, in elements and in attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn write_record(fields: &[(&'static str, Cell)]) -> String {
    let row = |(name, cell): &(&'static str, Cell)| format!("<tr><th>{}</th>{}</tr>", escape(name), write_cell(cell));
    format!("<table><tbody>{}</tbody></table>", fields.iter().map(row).collect::<String>())
}

fn write_table(table: &Table) -> String {
    let names: String = table.columns().iter().map(|name| format!("<th>{}</th>", escape(name))).collect();
    let row = |cells: &Vec<Cell>| format!("<tr>{}</tr>", cells.iter().map(write_cell).collect::<String>());
    let rows: String = table.rows().iter().map(row).collect();
    let mut html = format!("<table><thead><tr>{names}</tr></thead><tbody>{rows}</tbody></table>");
    let shown = table.rows().len();
    let total = table.rows_in_all().filter(|total| *total != shown as u64);
    if let Some(total) = total {
        html.push_str(&format!("{shown} of {total}. "));
    }
    if let Some(next) = table.next_page() {
        html.push_str(&format!("More with <code>--from {}</code>", escape(next)));
    }
    html
}

fn write_cell(cell: &Cell) -> String {
    let align = if cell.is_numeric() { " align=\"right\"" } else { "" };
    format!("<td{align}>{}</td>", escape(&cell.to_text()))
}

#[cfg(test)]
mod tests;
