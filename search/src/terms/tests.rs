use super::*;

fn finds(term: &str, text: &str) -> bool {
    Terms::parse(term).find_in(&split(text)).is_some()
}

#[test]
fn all_words_have_to_be_there_in_any_order() {
    assert!(finds("men martians", "Martians and men"));
    assert!(!finds("men venusians", "Martians and men"));
    assert!(!finds("marti", "Martians and men"), "not only their beginning");
}

#[test]
fn quotes_make_a_phrase() {
    assert!(finds("\"and men\" martians", "Martians and men"));
    assert!(!finds("\"men and\"", "Martians and men"));
    assert!(finds("\"men and", "Martians and men"), "an open quote is none");
    assert!(finds("example.org", "see https://example.org/x"));
    assert!(!finds("example.org", "an org, for example"));
}

#[test]
fn scripts_without_spaces_are_found_as_they_are_written() {
    assert!(finds("北京", "我爱北京天安门"));
    assert!(!finds("京北", "我爱北京天安门"));
    assert!(finds("タワー", "東京タワーが好き"));
    assert!(finds("สวัสดี", "สวัสดีครับ"));
    assert!(finds("검색", "검색을 합니다"));
    assert!(finds("北京 天安门", "天安门在北京"));
    assert!(finds("🎉", "done🎉"));
}

#[test]
fn searches_are_bounded_and_may_be_empty() {
    assert!(Terms::parse("").is_empty() && Terms::parse(" \"!?\" ").is_empty());
    let many = "word ".repeat(10_000) + &"東".repeat(10_000);
    let terms = Terms::parse(&many);
    assert!(terms.phrases().map(<[String]>::len).sum::<usize>() <= MAX_WORDS);
}

#[test]
fn highlights_are_what_stands_in_the_text() {
    let (text, mut highlights) = ("A CAFÉ in 東京 and a café", BTreeSet::new());
    let places = Terms::parse("cafe 東京").find_in(&split(text)).unwrap();
    note_highlights(text, &places, 10, &mut highlights);
    assert_eq!(highlights.into_iter().collect::<Vec<_>>(), ["café", "東京"]);
}
