//! Glob matching (Appendices §Glob-style matching), case-insensitive, on whole values and on words.
//!
//! Case is compared character by character by simple lower-casing: a character whose lower case has more
//! than one character stands for itself. So `?` and every literal consume exactly one character.

/// One element of a pattern between stars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// A literal character, lower-cased.
    Char(char),
    /// `?`: any one character.
    Any,
}

/// A compiled pattern: runs of tokens separated by `*`.
#[derive(Clone, Debug)]
pub struct Glob {
    /// The lower-cased text when the pattern is ASCII without `*` and `?`: compared as bytes where possible.
    literal: Option<Box<str>>,
    /// The non-empty runs between stars.
    runs: Box<[Box<[Token]>]>,
    /// Whether the pattern begins with `*`.
    open_start: bool,
    /// Whether the pattern ends with `*`.
    open_end: bool,
}

fn fold(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_lowercase();
    }
    let mut lower = c.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(single), None) => single,
        _ => c,
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Whether a word may begin or end at byte `at` of `value`: at either end of the value, or beside a
/// character that cannot be part of a word.
fn is_boundary(value: &str, at: usize) -> bool {
    let before = value.get(..at).and_then(|text| text.chars().next_back());
    let after = value.get(at..).and_then(|text| text.chars().next());
    match (before, after) {
        (Some(before), Some(after)) => !is_word(before) || !is_word(after),
        _ => true,
    }
}

/// What is left of `text` after `run` matched at its beginning.
fn strip_run<'a>(text: &'a str, run: &[Token]) -> Option<&'a str> {
    let mut rest = text.chars();
    for token in run {
        let c = rest.next()?;
        match token {
            Token::Char(expected) if fold(c) != *expected => return None,
            _ => {}
        }
    }
    Some(rest.as_str())
}

/// The remainders of `text` after each place where `run` matches, from left to right.
fn find_run<'t>(text: &'t str, run: &[Token]) -> impl Iterator<Item = &'t str> {
    text.char_indices().filter_map(move |(at, _)| strip_run(text.get(at..)?, run))
}

impl Glob {
    /// Compiles a pattern. Every string is a valid pattern.
    pub fn new(pattern: &str) -> Self {
        let plain = pattern.is_ascii() && !pattern.contains(['*', '?']);
        let token = |c| if c == '?' { Token::Any } else { Token::Char(fold(c)) };
        Self {
            literal: plain.then(|| pattern.to_ascii_lowercase().into_boxed_str()),
            runs: pattern
                .split('*')
                .filter(|run| !run.is_empty())
                .map(|run| run.chars().map(token).collect())
                .collect(),
            open_start: pattern.starts_with('*'),
            open_end: pattern.ends_with('*'),
        }
    }

    /// Whether the pattern matches the whole of `value`.
    pub fn matches(&self, value: &str) -> bool {
        if let Some(literal) = &self.literal {
            if literal.len() == value.len() && literal.eq_ignore_ascii_case(value) {
                return true;
            }
            if value.is_ascii() {
                return false;
            }
        }
        self.matches_runs(value)
    }

    fn matches_runs(&self, value: &str) -> bool {
        let mut runs = &*self.runs;
        let mut rest = value;
        if !self.open_start {
            let Some((first, others)) = runs.split_first() else { return value.is_empty() };
            let Some(stripped) = strip_run(rest, first) else { return false };
            rest = stripped;
            runs = others;
            if runs.is_empty() {
                return self.open_end || rest.is_empty();
            }
        }
        // From here on a star precedes every run: the leftmost place of each run leaves most to the others.
        let last = if self.open_end { None } else { runs.split_last() };
        let middle = last.map_or(runs, |(_, middle)| middle);
        for run in middle {
            let Some(stripped) = find_run(rest, run).next() else { return false };
            rest = stripped;
        }
        let Some((last, _)) = last else { return true };
        let Some((at, _)) = rest.char_indices().rev().nth(last.len().saturating_sub(1)) else { return false };
        rest.get(at..).and_then(|tail| strip_run(tail, last)).is_some()
    }

    /// Whether the pattern matches some non-empty part of `value` that begins and ends at a word boundary.
    pub(super) fn matches_word(&self, value: &str) -> bool {
        let Some((first, others)) = self.runs.split_first() else { return self.open_start && !value.is_empty() };
        let ends_word = |rest: &str| self.open_end || is_boundary(value, value.len() - rest.len());
        if self.open_start {
            return Self::matches_tail(value, &self.runs, ends_word);
        }
        for (at, _) in value.char_indices() {
            let Some(rest) = value.get(at..).and_then(|text| strip_run(text, first)) else { continue };
            if !is_boundary(value, at) {
                continue;
            }
            if !others.is_empty() {
                // A later start leaves less to the runs after the star, so it cannot do better.
                return Self::matches_tail(rest, others, ends_word);
            }
            if ends_word(rest) {
                return true;
            }
        }
        false
    }

    /// Whether `runs`, each after a star, match in `rest` with an accepted end.
    fn matches_tail(mut rest: &str, runs: &[Box<[Token]>], accepts: impl Fn(&str) -> bool) -> bool {
        let Some((last, middle)) = runs.split_last() else { return true };
        for run in middle {
            let Some(stripped) = find_run(rest, run).next() else { return false };
            rest = stripped;
        }
        find_run(rest, last).any(accepts)
    }
}

/// Whether `text` contains `word` literally, ignoring case, between word boundaries. An empty word is never
/// contained.
pub(super) fn contains_word(text: &str, word: &str) -> bool {
    let strip = |from: &str| {
        let mut rest = from.chars();
        word.chars()
            .all(|expected| rest.next().is_some_and(|c| fold(c) == fold(expected)))
            .then_some(rest.as_str().len())
    };
    !word.is_empty()
        && text.char_indices().any(|(at, _)| {
            let left = text.get(at..).and_then(strip);
            left.is_some_and(|left| is_boundary(text, at) && is_boundary(text, text.len() - left))
        })
}

#[cfg(test)]
mod tests;
