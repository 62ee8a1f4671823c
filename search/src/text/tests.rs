use proptest::prelude::*;

use super::*;

fn words(text: &str) -> Vec<String> {
    split(text).into_iter().map(|word| word.text).collect()
}

#[test]
fn latin_words_lose_case_and_accents() {
    assert_eq!(words("Hello, World! 2nd_try"), ["hello", "world", "2nd", "try"]);
    assert_eq!(words("Café CAFE\u{301} cafe"), ["cafe", "cafe", "cafe"]);
    assert_eq!(words("Straße łódź Ærø İstanbul"), ["strasse", "lodz", "aero", "istanbul"]);
    assert_eq!(words("Ёлка ёлка, ΌΔΟΣ οδός"), ["елка", "елка", "οδοσ", "οδοσ"]);
    assert_eq!(words("ﬁne Ｆｕｌｌ ②"), ["fine", "full", "2"]);
    assert_eq!(words("don't go to example.org/path"), ["don", "t", "go", "to", "example", "org", "path"]);
}

#[test]
fn scripts_without_spaces_are_split_by_character() {
    assert_eq!(words("我爱北京"), ["我", "爱", "北", "京"]);
    assert_eq!(words("東京タワーが好き、ABC社"), ["東", "京", "タ", "ワ", "ー", "が", "好", "き", "abc", "社"]);
    assert_eq!(words("ｶﾞ"), ["ガ"], "half width, voiced");
    assert_eq!(words("검색"), ["검", "색"]);
    assert_eq!(words("검색"), words(&"검색".nfd().collect::<String>()), "however it is composed");
    // Vowel and tone marks stay with their consonant, and count.
    assert_eq!(words("ที่นี่"), ["ที่", "นี่"]);
    assert_ne!(words("ที่"), words("ที"));
}

#[test]
fn marks_that_people_leave_out_do_not_count() {
    assert_eq!(words("مَرْحَبًا"), words("مرحبا"));
    assert_eq!(words("שָׁלוֹם"), words("שלום"));
    assert_eq!(words("हिन्दी"), ["हिन्दी"], "vowel signs of other scripts do");
}

#[test]
fn emoji_are_words() {
    assert_eq!(words("party🎉🎉 ❤️ 👍🏽"), ["party", "🎉", "🎉", "❤", "👍"]);
    assert_eq!(words("👩‍👩‍👧"), ["👩", "👩", "👧"]);
}

#[test]
fn long_words_are_cut_and_still_found() {
    let long = "a".repeat(5000);
    let found = split(&format!("{long} b"));
    assert_eq!((found[0].text.len(), found[0].range.clone()), (MAX_WORD, 0..5000));
    assert_eq!(found[1].text, "b");
    assert_eq!(words(&long), words(&long[..100]));
}

#[test]
fn ranges_are_those_of_the_original() {
    let text = "Ein CAFÉ, 東京!";
    let found: Vec<&str> = split(text).into_iter().map(|word| &text[word.range]).collect();
    assert_eq!(found, ["Ein", "CAFÉ", "東", "京"]);
}

proptest! {
    #[test]
    fn any_text_gives_words_in_order_within_it(text in "\\PC*") {
        let mut end = 0;
        for word in split(&text) {
            prop_assert!(!word.text.is_empty());
            prop_assert!(word.range.start < word.range.end && text.get(word.range.clone()).is_some());
            // A character that comes apart (a ligature, a fraction) may be several words.
            prop_assert!(word.range.end >= end);
            end = word.range.end;
        }
    }

    #[test]
    fn a_word_is_found_as_itself(text in "\\PC*") {
        for word in split(&text) {
            prop_assert_eq!(words(&word.text), vec![word.text.clone()]);
        }
    }
}
