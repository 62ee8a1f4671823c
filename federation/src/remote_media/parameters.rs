//! Parameters of header values: `; name=value; name="quoted value"` (RFC 9110 §5.6.6), and file names in them (RFC 6266).

use percent_encoding::percent_decode_str;

#[cfg(test)]
mod tests;

/// More parameters than this are not looked at.
const MAX_PARAMETERS: usize = 16;

/// The value of the first parameter with this name, whatever the case, in what follows the first semicolon of a header.
pub(super) fn find_parameter(parameters: &str, wanted: &str) -> Option<String> {
    let mut rest = parameters;
    for _ in 0..MAX_PARAMETERS {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        let (name, after) = rest.split_once('=')?;
        let (value, after) = take_value(after.trim_start());
        // A parameter without a value would be read as part of the next one's name.
        let name = name.rsplit(';').next().unwrap_or_default().trim();
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = after;
    }
    None
}

/// A token or a quoted text, and what follows it.
fn take_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.trim_end().to_owned(), rest);
    };
    let (mut value, mut is_escaped) = (String::new(), false);
    for (index, c) in quoted.char_indices() {
        match c {
            _ if is_escaped => {
                value.push(c);
                is_escaped = false;
            }
            '\\' => is_escaped = true,
            '"' => return (value, quoted.get(index + 1..).unwrap_or_default()),
            c => value.push(c),
        }
    }
    (value, "")
}

/// The file name of a `Content-Disposition`, the extended form first.
pub(crate) fn find_file_name(disposition: &str) -> Option<String> {
    let (_, parameters) = disposition.split_once(';')?;
    let extended = find_parameter(parameters, "filename*").and_then(|value| {
        let (charset, rest) = value.split_once('\'')?;
        let (_language, encoded) = rest.split_once('\'')?;
        let decoded = percent_decode_str(encoded).decode_utf8().ok()?;
        charset.eq_ignore_ascii_case("utf-8").then(|| decoded.into_owned())
    });
    let name = extended.or_else(|| find_parameter(parameters, "filename"))?;
    Some(name).filter(|name| !name.is_empty() && !name.chars().any(char::is_control))
}
