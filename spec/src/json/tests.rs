use super::*;

fn nested(depth: usize) -> String {
    format!("{}1{}", "[".repeat(depth), "]".repeat(depth))
}

#[test]
fn what_others_could_not_read_is_refused() {
    for text in [
        r#""\ud800""#,
        r#""\ud800\u0041""#,
        r#"{"\udc00":1}"#,
        "1e400",
        "[1",
        "{} {}",
        "",
        &nested(usize::from(MAX_DEPTH) + 1),
        &nested(100_000),
    ] {
        assert!(check_text(text).is_err(), "{text:.40}");
    }
    for text in
        [r#"["\ud83d\ude00",1.5,-1,true,null,{"a":{}},18446744073709551615,1e300]"#, &nested(usize::from(MAX_DEPTH))]
    {
        check_text(text).unwrap();
    }
}

#[test]
fn text_and_value_agree_on_the_depth() {
    for depth in [0, 1, 99, 100, 101, 110] {
        let array = nested(depth);
        let object = format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        for text in [array, object] {
            let value: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(is_shallow(&value), check_text(&text).is_ok(), "{depth}");
        }
    }
}
