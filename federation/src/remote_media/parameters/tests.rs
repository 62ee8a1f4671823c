use super::*;

#[test]
fn parameters_are_found_plain_and_quoted() {
    for (text, expected) in [
        ("boundary=abc", Some("abc")),
        (" boundary=abc ; x=y", Some("abc")),
        ("x=\"a;boundary=no\"; Boundary = \"a\\\"b\"", Some("a\"b")),
        ("flag; boundary=abc", Some("abc")),
        ("boundary=\"never closed", Some("never closed")),
        ("x=boundary", None),
        ("", None),
        (";;;=", None),
    ] {
        assert_eq!(find_parameter(text, "boundary").as_deref(), expected, "{text}");
    }
    let many = "x=y;".repeat(MAX_PARAMETERS) + "boundary=abc";
    assert_eq!(find_parameter(&many, "boundary"), None);
}

#[test]
fn the_extended_file_name_goes_first() {
    for (text, expected) in [
        ("inline; filename=plain.txt", Some("plain.txt")),
        ("attachment; filename=\"with space.png\"", Some("with space.png")),
        ("inline; filename=\"a\"; filename*=utf-8''%e2%82%ac%20b", Some("€ b")),
        ("inline; filename*=UTF-8'en'a%2Fb", Some("a/b")),
        ("inline; filename*=utf-8''%ff; filename=a", Some("a")),
        ("inline; filename*=latin-1''x", None),
        ("inline; filename*=utf-8''a%0d%0ab", None),
        ("inline; filename=\"\"", None),
        ("inline", None),
    ] {
        assert_eq!(find_file_name(text).as_deref(), expected, "{text}");
    }
}
