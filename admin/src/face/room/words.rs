//! A message of the admin room as the command that it is: words as a shell would split them, and a file from a code
//! block.

use serde::Deserialize;

/// What every command begins with.
pub(crate) const PREFIX: &str = "!admin";
/// The longest first line of a command, in bytes. What follows it is bounded by the size of an event.
const MAX_LINE_BYTES: usize = 8 * 1024;
/// The most words of a command.
const MAX_WORDS: usize = 500;

/// The content of a message, as far as it matters here.
#[derive(Deserialize)]
pub(crate) struct MessageContent {
    msgtype: Option<String>,
    body: Option<String>,
    #[serde(rename = "m.relates_to")]
    relates_to: Option<RelatesTo>,
}

#[derive(Deserialize)]
struct RelatesTo {
    rel_type: Option<String>,
    #[serde(rename = "m.in_reply_to")]
    in_reply_to: Option<serde::de::IgnoredAny>,
}

/// A command as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Typed {
    /// The words after the prefix.
    pub words: Vec<String>,
    /// What stood in the code block.
    pub file: Option<String>,
}

/// A message, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// A command.
    Command(Typed),
    /// A command that cannot be split.
    Malformed {
        /// Why.
        reason: &'static str,
        /// The whole message, which may hold secrets.
        raw: String,
    },
    /// Something people say; it may answer a question.
    Talk(String),
}

impl MessageContent {
    /// Reads a message that somebody typed; `None` for anything else: notices of other bots, files, edits.
    pub fn read(&self) -> Option<Message> {
        let is_edit = self.relates_to.as_ref().and_then(|relates| relates.rel_type.as_deref()) == Some("m.replace");
        if self.msgtype.as_deref() != Some("m.text") || is_edit {
            return None;
        }
        let is_reply = self.relates_to.as_ref().is_some_and(|relates| relates.in_reply_to.is_some());
        let body = self.body.as_deref()?;
        Some(read_body(if is_reply { skip_quote(body) } else { body }))
    }
}

/// What follows the quotation that old clients put before a reply.
fn skip_quote(body: &str) -> &str {
    let mut rest = body;
    while rest.starts_with("> ") {
        rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
    }
    rest.trim_start_matches('\n')
}

fn read_body(body: &str) -> Message {
    let body = body.trim();
    let (line, rest) = body.split_once('\n').unwrap_or((body, ""));
    let Some(line) = line.strip_prefix(PREFIX).filter(|line| line.is_empty() || line.starts_with(char::is_whitespace))
    else {
        return Message::Talk(body.to_owned());
    };
    let words = || match line.len() {
        0..=MAX_LINE_BYTES => split_words(line),
        _ => Err("the line is too long"),
    };
    match read_block(rest.trim()).and_then(|file| Ok(Typed { words: words()?, file })) {
        Ok(typed) if typed.words.len() <= MAX_WORDS => Message::Command(typed),
        Ok(_) => Message::Malformed { reason: "too many words", raw: body.to_owned() },
        Err(reason) => Message::Malformed { reason, raw: body.to_owned() },
    }
}

/// The content of a fenced code block, which is all there may be.
fn read_block(text: &str) -> Result<Option<String>, &'static str> {
    if text.is_empty() {
        return Ok(None);
    }
    let only = "only one code block may follow the first line, between lines of three backticks";
    let inner = text.strip_prefix("```").ok_or(only)?;
    // The rest of the first line names a language.
    let (_, inner) = inner.split_once('\n').ok_or(only)?;
    let (content, after) = match inner.strip_prefix("```") {
        Some(after) => ("", after),
        None => inner.split_once("\n```").ok_or("the code block is not closed")?,
    };
    if !after.is_empty() {
        return Err(only);
    }
    Ok(Some(format!("{content}\n")))
}

/// Splits as a shell does: quotation marks, single and double, and the backslash. The quotation marks and dashes that
/// telephones make of what is typed count as what was meant. `#` is an ordinary character: aliases begin with it.
pub(crate) fn split_words(line: &str) -> Result<Vec<String>, &'static str> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => quote(&mut chars, '\'', word.get_or_insert_default())?,
            '"' | '“' | '”' | '„' => quote(&mut chars, '"', word.get_or_insert_default())?,
            '\\' => {
                let escaped = chars.next().ok_or("the backslash at the end stands before nothing")?;
                word.get_or_insert_default().push(escaped);
            }
            '—' if word.is_none() => word.get_or_insert_default().push_str("--"),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn quote(chars: &mut std::str::Chars<'_>, mark: char, word: &mut String) -> Result<(), &'static str> {
    loop {
        match chars.next().ok_or("a quotation mark is not closed")? {
            c if c == mark => return Ok(()),
            '“' | '”' | '„' if mark == '"' => return Ok(()),
            '\\' if mark == '"' => match chars.next() {
                Some(escaped @ ('"' | '\\')) => word.push(escaped),
                Some(other) => word.extend(['\\', other]),
                None => {}
            },
            c => word.push(c),
        }
    }
}

#[cfg(test)]
mod tests;
