//! Making many accounts from a list.
//!
//! The list is comma-separated text (RFC 4180) whose first line names the columns: `name`, and any of `password`,
//! `displayname`, `role`, `email`. Each line becomes an account or an error that names the line; an account is made
//! with all that its line says or not at all. Running a list again makes what is still missing.

use std::collections::HashMap;

use clap::Args;
use futures_util::stream::{FuturesOrdered, StreamExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use users::Role;

use super::create::{PASSWORD_CHARS, Wanted, create};
use crate::admin::Admin;
use crate::arguments::Document;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

/// The most lines of a list.
const MAX_LINES: usize = 20_000;
/// How many accounts are made at a time: some wait for the disk while the passwords of others are hashed.
const LINES_AT_ONCE: usize = 8;
/// Progress is told this often, in lines.
const PROGRESS_LINES: usize = 100;
const COLUMNS: &[&str] = &["line", "user_id", "password", "error"];

/// Make accounts from a CSV file: name,password,displayname,role,email
///
/// The first line names the columns; only `name` is needed. For a line without a password one is chosen and shown once.
/// Every line becomes an account or an error with its number.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Import {
    /// The file
    pub file: Document,
    /// Only check the list: no account is made
    #[arg(long)]
    #[serde(default)]
    pub check: bool,
}

impl Operation for Import {
    const NAME: (&'static str, &'static str) = ("user", "import");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{document}";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let records = parse_csv(self.file.text()?)?;
        let (header, lines) = records.split_first().ok_or_else(|| AdminError::invalid("the list is empty"))?;
        let columns = Columns::read(header)?;
        if lines.len() > MAX_LINES {
            return Err(AdminError::TooLarge(format!("a list has at most {MAX_LINES} lines")));
        }
        let repeats = columns.find_repeats(lines);
        let (mut waiting, mut coming) = (FuturesOrdered::new(), lines.iter());
        let mut rows = Vec::with_capacity(lines.len());
        loop {
            for record in coming.by_ref().take(LINES_AT_ONCE.saturating_sub(waiting.len())) {
                waiting.push_back(self.read_line(admin, &columns, &repeats, record));
            }
            let Some((line, outcome)) = waiting.next().await else { break };
            let line = Cell::number(line);
            rows.push(match outcome {
                Ok((user_id, password)) => {
                    vec![line, Cell::Text(user_id), Cell::or_none(password, Cell::Secret), Cell::None]
                }
                Err(error) => vec![line, Cell::None, Cell::None, Cell::Text(error.to_string())],
            });
            if rows.len() % PROGRESS_LINES == 0 {
                caller.progress(format!("{} of {} lines", rows.len(), lines.len()));
            }
        }
        let total = rows.len() as u64;
        Ok(Outcome::table(COLUMNS, rows).total(total))
    }
}

impl Import {
    /// Takes a line that repeats no earlier one; tells its number too.
    async fn read_line(
        &self,
        admin: &Admin,
        columns: &Columns,
        repeats: &HashMap<usize, usize>,
        record: &Record,
    ) -> (usize, Result<(String, Option<String>), AdminError>) {
        let outcome = match repeats.get(&record.line) {
            Some(earlier) => Err(AdminError::conflict(format!("line {earlier} has the same name or e-mail"))),
            None => self.take_line(admin, columns, record).await,
        };
        (record.line, outcome)
    }

    /// The user id, and the password if it was chosen here.
    async fn take_line(
        &self,
        admin: &Admin,
        columns: &Columns,
        record: &Record,
    ) -> Result<(String, Option<String>), AdminError> {
        let field = |column| record.field(column);
        let name = field(Some(columns.name)).ok_or_else(|| AdminError::invalid("the name is missing"))?;
        let role = match field(columns.role) {
            None => Role::Member,
            Some(role) => Role::parse(&role.to_lowercase())
                .ok_or_else(|| AdminError::invalid(format!("{role:?} is not a role")))?,
        };
        let given = field(columns.password);
        if let Some(password) = given {
            admin.users().check_password_strength(password)?;
        }
        if self.check {
            return Ok((admin.users().check_available(name)?.as_str().to_owned(), None));
        }
        let chosen = given.is_none().then(|| admin.random().token(PASSWORD_CHARS));
        let wanted = Wanted {
            name,
            password: given.or(chosen.as_deref()),
            display_name: field(columns.display_name),
            role: Some(role),
            email: field(columns.email),
        };
        let account = create(admin, &wanted).await?;
        Ok((account.user_id.as_str().to_owned(), chosen))
    }
}

/// Where each column is.
#[derive(Debug)]
struct Columns {
    name: usize,
    password: Option<usize>,
    display_name: Option<usize>,
    role: Option<usize>,
    email: Option<usize>,
}

impl Columns {
    fn read(header: &Record) -> Result<Columns, AdminError> {
        let names: Vec<String> = header.fields.iter().map(|name| name.trim().to_lowercase()).collect();
        let known = ["name", "password", "displayname", "role", "email"];
        if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
            return Err(AdminError::invalid(format!("the column {unknown:?} is unknown: use {}", known.join(", "))));
        }
        let find = |wanted: &str| names.iter().position(|name| name == wanted);
        let name = find("name").ok_or_else(|| AdminError::invalid("the first line must name a column \"name\""))?;
        Ok(Columns {
            name,
            password: find("password"),
            display_name: find("displayname"),
            role: find("role"),
            email: find("email"),
        })
    }

    /// The lines that have the name or the e-mail address of an earlier one, with that. Several lines are made at once,
    /// so that it would be left to chance which of them becomes an account.
    fn find_repeats(&self, lines: &[Record]) -> HashMap<usize, usize> {
        let mut seen = HashMap::new();
        let mut repeats = HashMap::new();
        for record in lines {
            for column in [Some(self.name), self.email] {
                let Some(text) = record.field(column) else { continue };
                let earlier = *seen.entry((column, text.to_lowercase())).or_insert(record.line);
                if earlier != record.line {
                    repeats.entry(record.line).or_insert(earlier);
                }
            }
        }
        repeats
    }
}

/// One record of a list.
#[derive(Debug, PartialEq, Eq)]
struct Record {
    /// The line on which it begins, from 1.
    line: usize,
    fields: Vec<String>,
}

impl Record {
    /// What it says in a column, if anything.
    fn field(&self, column: Option<usize>) -> Option<&str> {
        let text = self.fields.get(column?)?.trim();
        (!text.is_empty()).then_some(text)
    }
}

/// Reads comma-separated text: fields may be quoted, and then hold commas, line ends and doubled quotes. Empty lines are
/// passed over.
fn parse_csv(text: &str) -> Result<Vec<Record>, AdminError> {
    let mut records = Vec::new();
    let mut fields = Vec::new();
    let (mut field, mut is_quoted) = (String::new(), false);
    let (mut line, mut began) = (1, 1);
    let mut symbols = text.strip_prefix('\u{feff}').unwrap_or(text).chars().peekable();
    while let Some(symbol) = symbols.next() {
        match symbol {
            '"' if is_quoted && symbols.peek() == Some(&'"') => {
                symbols.next();
                field.push('"');
            }
            '"' if is_quoted => is_quoted = false,
            '"' if field.is_empty() => is_quoted = true,
            ',' if !is_quoted => fields.push(std::mem::take(&mut field)),
            '\r' if !is_quoted && symbols.peek() == Some(&'\n') => {}
            '\n' if !is_quoted => {
                fields.push(std::mem::take(&mut field));
                line += 1;
                end_record(&mut records, &mut fields, began);
                began = line;
            }
            symbol => {
                line += usize::from(symbol == '\n');
                field.push(symbol);
            }
        }
    }
    if is_quoted {
        return Err(AdminError::invalid(format!("the quotes that open in the record of line {began} are not closed")));
    }
    fields.push(field);
    end_record(&mut records, &mut fields, began);
    Ok(records)
}

fn end_record(records: &mut Vec<Record>, fields: &mut Vec<String>, line: usize) {
    let fields = std::mem::take(fields);
    if fields.iter().any(|field| !field.trim().is_empty()) {
        records.push(Record { line, fields });
    }
}

#[cfg(test)]
mod tests;
