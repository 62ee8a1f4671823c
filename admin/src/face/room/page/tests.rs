use super::*;

#[test]
fn what_comes_from_outside_is_escaped_everywhere() {
    let evil = "<img src=x onerror=\"a('&')\">";
    let outcomes = [
        Outcome::line(evil),
        Outcome::record(vec![("name", Cell::text(evil))]),
        Outcome::table(&["name"], vec![vec![Cell::text(evil)]]).next(Some(evil.to_owned())),
        Outcome::table(&["names"], vec![vec![Cell::List(vec![Cell::text(evil)])]]),
        Outcome::file(evil, "text/plain", Vec::new()),
    ];
    for outcome in outcomes {
        let Page { html, .. } = Page::of(&outcome);
        assert!(!html.contains("<img"), "{html}");
        assert!(html.contains("&lt;img src=x onerror=&quot;a(&#39;&amp;&#39;)&quot;&gt;"), "{html}");
    }
    assert!(!Page::columns(evil).html.contains("<img"));
}

#[test]
fn a_table_is_a_table() {
    let rows = vec![vec![Cell::text("a"), Cell::Number(1)], vec![Cell::text("b"), Cell::Number(2)]];
    let page = Page::of(&Outcome::table(&["name", "rooms"], rows).next(Some("b".to_owned())).total(7));
    assert_eq!(
        page.html,
        "<table><thead><tr><th>name</th><th>rooms</th></tr></thead><tbody>\
         <tr><td>a</td><td align=\"right\">1</td></tr><tr><td>b</td><td align=\"right\">2</td></tr></tbody></table>\
         2 of 7. More with <code>--from b</code>"
    );
    assert!(page.plain.starts_with("name  rooms\n"), "{}", page.plain);
}

#[test]
fn long_is_what_has_too_many_characters_or_too_much_markup() {
    assert!(!Page::text("x".repeat(MAX_MESSAGE_CHARS)).is_long());
    assert!(Page::text("x".repeat(MAX_MESSAGE_CHARS + 1)).is_long());
    assert!(!Page::text("ä".repeat(MAX_MESSAGE_CHARS)).is_long());
    assert!(Page::text("\"".repeat(MAX_MESSAGE_CHARS)).is_long(), "the markup has 24,000 bytes");
}

#[test]
fn a_page_below_another() {
    let page = Page::text("a").and(&Page::text("b"));
    assert_eq!((page.plain.as_str(), page.html.as_str()), ("a\nb", "a<br>b"));
}
