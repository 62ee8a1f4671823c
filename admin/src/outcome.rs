//! What an operation answers, and how that reads: as JSON and as text from the same value.

mod text;

use std::fmt::Write;

use serde_json::{Map, Value};

pub use text::format_time;

/// What an operation answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A sentence. JSON: `{"message": …}`.
    Line(String),
    /// Named values. JSON: an object.
    Record(Vec<(&'static str, Cell)>),
    /// Rows. JSON: `{"items": […], "next": …, "total": …}`.
    Table(Table),
    /// A file. HTTP answers with its bytes.
    File(File),
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Text.
    Text(String),
    /// Text that only those who asked may see, and that should not stay anywhere: a chosen password, a token.
    Secret(String),
    /// A number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
    /// A time, in milliseconds since 1970.
    Time(u64),
    /// A day of UTC: how many lie between it and 1970-01-01. Shown as a date.
    Day(u32),
    /// A size, in bytes.
    Bytes(u64),
    /// A value in JSON: shown as it is written.
    Json(Value),
    /// Nothing.
    None,
    /// Several values.
    List(Vec<Cell>),
}

/// Rows under column names, and where the next page begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    columns: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
    next: Option<String>,
    total: Option<u64>,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// A name without a path.
    pub name: String,
    /// Its media type.
    pub mime: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

impl Outcome {
    /// A sentence.
    pub fn line(text: impl Into<String>) -> Outcome {
        Outcome::Line(text.into())
    }

    /// Named values.
    #[must_use]
    pub fn record(fields: Vec<(&'static str, Cell)>) -> Outcome {
        Outcome::Record(fields)
    }

    /// Rows, each with a cell for each column.
    #[must_use]
    pub fn table(columns: &[&'static str], rows: Vec<Vec<Cell>>) -> Outcome {
        Outcome::Table(Table { columns: columns.to_vec(), rows, next: None, total: None })
    }

    /// A file.
    pub fn file(name: impl Into<String>, mime: impl Into<String>, bytes: Vec<u8>) -> Outcome {
        Outcome::File(File { name: name.into(), mime: mime.into(), bytes })
    }

    /// The table with the place where its next page begins, if there is one; what to give as `--from`.
    #[must_use]
    pub fn next(mut self, cursor: Option<impl ToString>) -> Outcome {
        if let Outcome::Table(table) = &mut self {
            table.next = cursor.map(|cursor| cursor.to_string());
        }
        self
    }

    /// The table with the number of rows on all pages.
    #[must_use]
    pub fn total(mut self, rows: u64) -> Outcome {
        if let Outcome::Table(table) = &mut self {
            table.total = Some(rows);
        }
        self
    }

    /// Whether there is a secret in it, which should not stay where it is shown.
    #[must_use]
    pub fn has_secret(&self) -> bool {
        let is_secret = |cell: &Cell| matches!(cell, Cell::Secret(_));
        match self {
            Outcome::Record(fields) => fields.iter().any(|(_, cell)| is_secret(cell)),
            Outcome::Table(table) => table.rows.iter().flatten().any(is_secret),
            Outcome::Line(_) | Outcome::File(_) => false,
        }
    }

    /// As JSON. A file is described, without its content.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Outcome::Line(text) => object([("message", Value::from(text.as_str()))]),
            Outcome::Record(fields) => object(fields.iter().map(|(name, cell)| (*name, cell.to_json()))),
            Outcome::Table(table) => {
                let row =
                    |cells: &Vec<Cell>| object(table.columns.iter().copied().zip(cells.iter().map(Cell::to_json)));
                let mut answer = Map::new();
                answer.insert("items".to_owned(), table.rows.iter().map(row).collect());
                if let Some(next) = &table.next {
                    answer.insert("next".to_owned(), next.as_str().into());
                }
                if let Some(total) = table.total {
                    answer.insert("total".to_owned(), total.into());
                }
                Value::Object(answer)
            }
            Outcome::File(file) => object([
                ("name", Value::from(file.name.as_str())),
                ("mime", Value::from(file.mime.as_str())),
                ("bytes", Value::from(file.bytes.len())),
            ]),
        }
    }
}

impl Table {
    /// The names of the columns.
    #[must_use]
    pub fn columns(&self) -> &[&'static str] {
        &self.columns
    }

    /// The rows.
    #[must_use]
    pub fn rows(&self) -> &[Vec<Cell>] {
        &self.rows
    }

    /// Where the next page begins.
    #[must_use]
    pub fn next_page(&self) -> Option<&str> {
        self.next.as_deref()
    }

    /// How many rows there are on all pages, if that was counted.
    #[must_use]
    pub fn rows_in_all(&self) -> Option<u64> {
        self.total
    }
}

impl Cell {
    /// Text.
    pub fn text(text: impl ToString) -> Cell {
        Cell::Text(text.to_string())
    }

    /// A number; those beyond the range stop at its end.
    pub fn number(number: impl TryInto<i64>) -> Cell {
        Cell::Number(number.try_into().unwrap_or(i64::MAX))
    }

    /// The cell of a value that may be absent.
    pub fn or_none<T>(value: Option<T>, cell: impl FnOnce(T) -> Cell) -> Cell {
        value.map_or(Cell::None, cell)
    }

    /// As JSON: times and sizes are numbers, days are text such as `2026-01-31`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Cell::Text(text) | Cell::Secret(text) => text.as_str().into(),
            Cell::Number(number) => (*number).into(),
            Cell::Flag(flag) => (*flag).into(),
            Cell::Time(number) | Cell::Bytes(number) => (*number).into(),
            Cell::Day(day) => text::format_day(*day).into(),
            Cell::Json(value) => value.clone(),
            Cell::None => Value::Null,
            Cell::List(cells) => cells.iter().map(Cell::to_json).collect(),
        }
    }

    /// As people read it, without control characters.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Cell::Text(text) | Cell::Secret(text) => {
                text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
            }
            Cell::Number(number) => number.to_string(),
            Cell::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
            Cell::Time(ms) => format_time(*ms),
            Cell::Day(day) => text::format_day(*day),
            Cell::Bytes(bytes) => text::format_bytes(*bytes),
            Cell::Json(value) => Cell::Text(value.to_string()).to_text(),
            Cell::None => "-".to_owned(),
            Cell::List(cells) if cells.is_empty() => Cell::None.to_text(),
            Cell::List(cells) => cells.iter().map(Cell::to_text).collect::<Vec<_>>().join(", "),
        }
    }

    /// Whether it stands at the right side of its column.
    #[must_use]
    pub fn is_numeric(&self) -> bool {
        matches!(self, Cell::Number(_) | Cell::Bytes(_))
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell::Text(text)
    }
}

impl From<bool> for Cell {
    fn from(flag: bool) -> Cell {
        Cell::Flag(flag)
    }
}

impl std::fmt::Display for Outcome {
    /// As text for a terminal; a file is described.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::Line(text) => f.write_str(text),
            Outcome::Record(fields) => text::write_record(f, fields),
            Outcome::Table(table) => text::write_table(f, table),
            Outcome::File(file) => {
                f.write_str(&file.name)?;
                f.write_char(' ')?;
                write!(f, "({}, {})", file.mime, text::format_bytes(file.bytes.len() as u64))
            }
        }
    }
}

fn object<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

#[cfg(test)]
mod tests;
