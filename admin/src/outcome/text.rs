//! Outcomes as text in columns.

use std::fmt::{Formatter, Result};

use super::{Cell, Table};

const BYTE_UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// A size with the largest unit that it fills.
pub(super) fn format_bytes(bytes: u64) -> String {
    match BYTE_UNITS.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}

/// A time in UTC, `2026-01-31 12:00:00`, from milliseconds since 1970.
#[must_use]
pub fn format_time(ms: u64) -> String {
    let seconds = ms / 1000;
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{} {hour:02}:{minute:02}:{second:02}", format_date(seconds / 86_400))
}

/// A day, `2026-01-31`, from days since 1970-01-01.
pub(super) fn format_day(day: u32) -> String {
    format_date(day.into())
}

fn format_date(days: u64) -> String {
    let (year, month, day) = civil_date(days);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar.
fn civil_date(days: u64) -> (u64, u64, u64) {
    // Years that begin in March: the leap day is then the last day of a year.
    let days = days.saturating_add(719_468);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// `name:  value`, one a line.
pub(super) fn write_record(f: &mut Formatter<'_>, fields: &[(&'static str, Cell)]) -> Result {
    let width = fields.iter().map(|(name, _)| name.len() + 1).max().unwrap_or_default();
    for (at, (name, cell)) in fields.iter().enumerate() {
        if at > 0 {
            f.write_str("\n")?;
        }
        let label = format!("{name}:");
        write!(f, "{label:width$}  {}", cell.to_text())?;
    }
    Ok(())
}

/// Columns, a line for each row, and what is known of the rest.
pub(super) fn write_table(f: &mut Formatter<'_>, table: &Table) -> Result {
    let rows: Vec<Vec<String>> = table.rows.iter().map(|row| row.iter().map(Cell::to_text).collect()).collect();
    if rows.is_empty() {
        f.write_str("none")?;
    } else {
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain(table.columns.get(column).map(|name| name.len())).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..table.columns.len()).map(width).collect();
        write_line(f, table.columns.iter().map(|name| (*name, false)), &widths)?;
        for (row, cells) in rows.iter().zip(&table.rows) {
            f.write_str("\n")?;
            write_line(f, row.iter().map(String::as_str).zip(cells.iter().map(Cell::is_numeric)), &widths)?;
        }
    }
    match (table.total, &table.next) {
        (Some(total), Some(next)) => write!(f, "\n{} of {total}; more with --from {next}", table.rows.len()),
        (Some(total), None) if total != table.rows.len() as u64 => write!(f, "\n{} of {total}", table.rows.len()),
        (None, Some(next)) => write!(f, "\nmore with --from {next}"),
        _ => Ok(()),
    }
}

fn write_line<'a>(f: &mut Formatter<'_>, cells: impl Iterator<Item = (&'a str, bool)>, widths: &[usize]) -> Result {
    let mut line = String::new();
    for ((cell, right), width) in cells.zip(widths) {
        if !line.is_empty() {
            line.push_str("  ");
        }
        line.push_str(&if right { format!("{cell:>width$}") } else { format!("{cell:width$}") });
    }
    f.write_str(line.trim_end())
}
