use proptest::prelude::*;

use super::*;

/// The definition of glob matching, as directly as it can be written; exponential.
fn naive(pattern: &[char], value: &[char]) -> bool {
    match (pattern.split_first(), value.split_first()) {
        (None, _) => value.is_empty(),
        (Some(('*', rest)), _) => (0..=value.len()).any(|skip| naive(rest, &value[skip..])),
        (Some(('?', pattern)), Some((_, value))) => naive(pattern, value),
        (Some((p, pattern)), Some((v, value))) => fold(*p) == fold(*v) && naive(pattern, value),
        (Some(_), None) => false,
    }
}

/// The definition of word matching: some non-empty part between boundaries matches as a whole.
fn naive_word(pattern: &[char], value: &[char]) -> bool {
    let boundary = |at: usize| at == 0 || at == value.len() || !is_word(value[at - 1]) || !is_word(value[at]);
    (0..value.len()).filter(|start| boundary(*start)).any(|start| {
        (start + 1..=value.len()).filter(|end| boundary(*end)).any(|end| naive(pattern, &value[start..end]))
    })
}

fn chars(text: &str) -> Vec<char> {
    text.chars().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn whole_match_agrees_with_the_definition(pattern in "[ab*?Aé]{0,7}", value in "[abABéÉ]{0,9}") {
        prop_assert_eq!(Glob::new(&pattern).matches(&value), naive(&chars(&pattern), &chars(&value)));
    }

    #[test]
    fn word_match_agrees_with_the_definition(pattern in "[ab*? _é]{1,6}", value in "[abA _é@]{0,9}") {
        prop_assert_eq!(Glob::new(&pattern).matches_word(&value), naive_word(&chars(&pattern), &chars(&value)));
    }

    #[test]
    fn literal_word_agrees_with_the_glob(word in "[ab @é]{1,4}", value in "[abAB @éÉ]{0,9}") {
        prop_assert_eq!(contains_word(&value, &word), Glob::new(&word).matches_word(&value));
    }

    #[test]
    fn no_input_panics(pattern in any::<String>(), value in any::<String>()) {
        let glob = Glob::new(&pattern);
        glob.matches(&value);
        glob.matches_word(&value);
        contains_word(&value, &pattern);
    }
}

#[test]
fn specification_examples_match() {
    let topic = Glob::new("lunc?*");
    assert!(topic.matches("Lunch plans") && topic.matches("LUNCH"));
    assert!(!topic.matches(" lunch") && !topic.matches("lunc"));
    let body = Glob::new("ex*ple");
    for matching in ["An example event.", "exple", "An exciting triple-whammy"] {
        assert!(body.matches_word(matching), "{matching}");
    }
    assert!(!body.matches_word("An inexact tripled event"));
}

#[test]
fn kelvin_sign_counts_as_k() {
    assert!(Glob::new("k").matches("\u{212a}"));
}

#[test]
fn hostile_bodies_cost_linear_time() {
    let body = "a ".repeat(32_000);
    assert!(!Glob::new("a*b").matches_word(&body));
    assert!(!Glob::new("*a*a*a*a*b").matches(&body));
}
