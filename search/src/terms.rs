//! What somebody searches for.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::text::{Word, split};

/// The most words of one search; further ones are not looked at.
const MAX_WORDS: usize = 64;
/// How many places of a phrase in one text are told.
const MAX_PLACES: usize = 16;

/// What a text must have to be found: every phrase somewhere, each as a row of neighbouring words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    phrases: Vec<Vec<String>>,
}

impl Terms {
    /// Reads a search term. What is in quotes is one phrase; else what stands between spaces is, which matters for
    /// `example.org` and for scripts without spaces.
    pub fn parse(term: &str) -> Terms {
        let (mut phrases, mut left) = (Vec::new(), MAX_WORDS);
        let mut add = |text: &str| {
            let words: Vec<String> = split(text).into_iter().map(|word| word.text).take(left).collect();
            left -= words.len();
            if !words.is_empty() && !phrases.contains(&words) {
                phrases.push(words);
            }
        };
        let quotes = term.matches('"').count();
        for (index, part) in term.split('"').enumerate() {
            // A quote that is not closed is none.
            if index % 2 == 1 && index < quotes {
                add(part);
            } else {
                part.split_whitespace().for_each(&mut add);
            }
        }
        Terms { phrases }
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.phrases.is_empty()
    }

    /// Words that must stand side by side, at least one each.
    pub fn phrases(&self) -> impl Iterator<Item = &[String]> {
        self.phrases.iter().map(Vec::as_slice)
    }

    /// Where a text has what is looked for, in bytes; `None` if it lacks any of it.
    pub fn find_in(&self, words: &[Word]) -> Option<Vec<Range<usize>>> {
        let mut places = Vec::new();
        for phrase in &self.phrases {
            let before = places.len();
            for row in words.windows(phrase.len()) {
                if row.iter().map(|word| &word.text).eq(phrase)
                    && let (Some(first), Some(last)) = (row.first(), row.last())
                {
                    places.push(first.range.start..last.range.end);
                }
                if places.len() - before >= MAX_PLACES {
                    break;
                }
            }
            if places.len() == before {
                return None;
            }
        }
        Some(places)
    }
}

/// Adds the parts of a text that were found to the words that clients highlight, in lower case, up to `most`.
pub(crate) fn note_highlights(text: &str, places: &[Range<usize>], most: usize, highlights: &mut BTreeSet<String>) {
    for place in places {
        if highlights.len() >= most {
            return;
        }
        if let Some(found) = text.get(place.clone()) {
            highlights.insert(found.to_lowercase());
        }
    }
}

#[cfg(test)]
mod tests;
