//! Text into words, the same way for what is indexed and for what is asked.
//!
//! Case, accents and compatibility forms are folded away. Scripts that do not part words by spaces (Chinese, Japanese,
//! Thai, …), and Korean, whose words carry their particles, become one word a character: what is asked for is then
//! found as a row of neighbours, without a dictionary.

use std::ops::Range;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Of longer words only so many characters count: long rows without a space are keys and hashes.
const MAX_WORD: usize = 64;

/// A word in its folded form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// The word, folded.
    pub text: String,
    /// Where it stands in the original, in bytes.
    pub range: Range<usize>,
}

/// What a character is to its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Stands in a word with its like.
    Letter,
    /// A word of its own.
    Single,
    /// Belongs to whatever stands before it.
    Mark,
    /// Counts for nothing, and parts nothing.
    Nothing,
    /// Parts words.
    Gap,
}

/// The words of a text, in order.
pub(crate) fn split(text: &str) -> Vec<Word> {
    let mut splitter = Splitter::default();
    for (start, original) in text.char_indices() {
        let range = start..start + original.len_utf8();
        if original.is_ascii() {
            splitter.take(original.to_ascii_lowercase(), &range);
            continue;
        }
        for part in std::iter::once(original).nfkd() {
            for letter in part.to_lowercase() {
                match spell_out(letter) {
                    Some(letters) => letters.chars().for_each(|letter| splitter.take(letter, &range)),
                    None => splitter.take(letter, &range),
                }
            }
        }
    }
    splitter.close();
    splitter.words
}

#[derive(Default)]
struct Splitter {
    words: Vec<Word>,
    open: Option<Open>,
}

/// A word that may go on.
struct Open {
    word: Word,
    characters: usize,
    is_single: bool,
}

impl Splitter {
    fn take(&mut self, letter: char, range: &Range<usize>) {
        match role_of(letter) {
            Role::Gap => self.close(),
            Role::Single => self.begin(letter, range, true),
            Role::Letter => match &mut self.open {
                Some(open) if !open.is_single => open.push(letter, range),
                _ => self.begin(letter, range, false),
            },
            Role::Mark => {
                if let Some(open) = &mut self.open {
                    open.push(letter, range);
                }
            }
            Role::Nothing => {
                if let Some(open) = &mut self.open {
                    open.word.range.end = range.end;
                }
            }
        }
    }

    fn begin(&mut self, letter: char, range: &Range<usize>, is_single: bool) {
        self.close();
        let word = Word { text: letter.into(), range: range.clone() };
        self.open = Some(Open { word, characters: 1, is_single });
    }

    fn close(&mut self) {
        if let Some(Open { mut word, .. }) = self.open.take() {
            // What was taken apart to be folded: Korean syllables, Japanese voiced sounds.
            if !word.text.is_ascii() {
                word.text = word.text.nfc().collect();
            }
            self.words.push(word);
        }
    }
}

impl Open {
    fn push(&mut self, letter: char, range: &Range<usize>) {
        self.word.range.end = range.end;
        if self.characters < MAX_WORD {
            self.word.text.push(letter);
            self.characters += 1;
        }
    }
}

/// Letters that are others with a stroke, or two in one, and that normalisation leaves alone.
fn spell_out(letter: char) -> Option<&'static str> {
    Some(match letter {
        'ß' => "ss",
        'æ' => "ae",
        'œ' => "oe",
        'ø' => "o",
        'đ' | 'ð' => "d",
        'ł' => "l",
        'þ' => "th",
        'ı' => "i",
        'ς' => "σ",
        _ => return None,
    })
}

fn role_of(letter: char) -> Role {
    if letter.is_ascii() {
        return if letter.is_ascii_alphanumeric() { Role::Letter } else { Role::Gap };
    }
    if is_left_out(letter) {
        Role::Nothing
    } else if is_combining_mark(letter) || matches!(letter, '\u{1160}'..='\u{11FF}') {
        Role::Mark
    } else if is_pictograph(letter) || (is_unspaced(letter) && letter.is_alphanumeric()) {
        Role::Single
    } else if letter.is_alphanumeric() {
        Role::Letter
    } else {
        Role::Gap
    }
}

/// Accents and vowel signs that people leave out when they type, and what only changes how a character looks.
fn is_left_out(letter: char) -> bool {
    matches!(letter,
        // Latin, Greek and Cyrillic accents.
        '\u{0300}'..='\u{036F}'
        // Hebrew points, Arabic vowel signs and the Arabic stretching sign.
        | '\u{0591}'..='\u{05BD}' | '\u{05BF}' | '\u{05C1}' | '\u{05C2}' | '\u{05C4}' | '\u{05C5}' | '\u{05C7}'
        | '\u{0610}'..='\u{061A}' | '\u{0640}' | '\u{064B}'..='\u{065F}' | '\u{0670}'
        // Soft hyphen, joiners, direction marks, variation selectors, key caps, skin colours.
        | '\u{00AD}' | '\u{200B}'..='\u{200F}' | '\u{2060}' | '\u{FE00}'..='\u{FE0F}' | '\u{20E3}'
        | '\u{1F3FB}'..='\u{1F3FF}')
}

/// Emoji and other pictures.
fn is_pictograph(letter: char) -> bool {
    matches!(letter,
        '\u{1F000}'..='\u{1FAFF}' | '\u{2600}'..='\u{27BF}' | '\u{2300}'..='\u{23FF}' | '\u{2B00}'..='\u{2BFF}'
        | '\u{2190}'..='\u{21FF}')
}

/// Scripts whose words are not found by spaces.
fn is_unspaced(letter: char) -> bool {
    matches!(letter,
        // Thai, Lao, Tibetan, Burmese, Khmer, Tai scripts.
        '\u{0E00}'..='\u{0FFF}' | '\u{1000}'..='\u{109F}' | '\u{1780}'..='\u{17FF}' | '\u{1950}'..='\u{19DF}'
        | '\u{1A20}'..='\u{1AAF}' | '\u{A9E0}'..='\u{A9FF}' | '\u{AA60}'..='\u{AA7F}' | '\u{AA80}'..='\u{AADF}'
        // Korean.
        | '\u{1100}'..='\u{11FF}' | '\u{3130}'..='\u{318F}' | '\u{A960}'..='\u{A97F}' | '\u{AC00}'..='\u{D7FF}'
        // Chinese and Japanese.
        | '\u{2E80}'..='\u{2FDF}' | '\u{3005}'..='\u{3007}' | '\u{3021}'..='\u{312F}' | '\u{31A0}'..='\u{31FF}'
        | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{A000}'..='\u{A4CF}' | '\u{F900}'..='\u{FAFF}'
        | '\u{20000}'..='\u{3FFFF}')
}

#[cfg(test)]
mod tests;
