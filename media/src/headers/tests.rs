use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn parts_lie_within_the_content(header in "bytes=[0-9]{0,3}-[0-9]{0,3}", length in 0u64..300) {
        if let RangeRequest::Part { first, last } = parse_range(Some(&header), length) {
            prop_assert!(first <= last && last < length, "{first}-{last} of {length}");
        }
    }

    #[test]
    fn a_range_within_the_content_is_given_as_asked(first in 0u64..500, size in 1u64..500, rest in 0u64..500) {
        let last = first + size - 1;
        let header = format!("bytes={first}-{last}");
        prop_assert_eq!(parse_range(Some(&header), last + 1 + rest), RangeRequest::Part { first, last });
    }

    #[test]
    fn no_range_header_panics(header in any::<String>(), length in any::<u64>()) {
        parse_range(Some(&header), length);
        parse_range(Some(&format!("bytes={header}")), length);
    }

    #[test]
    fn dispositions_are_header_text(name in any::<String>()) {
        let header = content_disposition(None, Some(&name));
        prop_assert!(header.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{header}");
    }
}

#[test]
fn ranges_follow_the_rfc() {
    let part = |first, last| RangeRequest::Part { first, last };
    for (header, expected) in [
        ("bytes=0-", part(0, 9)),
        ("bytes=3-100", part(3, 9)),
        ("bytes=-4", part(6, 9)),
        ("bytes=-40", part(0, 9)),
        ("bytes=-0", RangeRequest::Unsatisfiable),
        ("bytes=10-", RangeRequest::Unsatisfiable),
        ("bytes=99999999999999999999-", RangeRequest::Unsatisfiable),
        ("bytes=5-4", RangeRequest::Whole),
        ("bytes=0-1,3-4", RangeRequest::Whole),
        ("bytes=-", RangeRequest::Whole),
        ("items=0-1", RangeRequest::Whole),
    ] {
        assert_eq!(parse_range(Some(header), 10), expected, "{header}");
    }
    assert_eq!(parse_range(None, 10), RangeRequest::Whole);
    assert_eq!(parse_range(Some("bytes=0-"), 0), RangeRequest::Unsatisfiable);
}

#[test]
fn only_listed_types_are_inline() {
    assert_eq!(content_disposition(Some("image/PNG"), None), "inline");
    assert_eq!(content_disposition(Some("text/plain; charset=utf-8"), None), "inline");
    for dangerous in [Some("text/html"), Some("image/svg+xml"), Some("application/pdf"), Some(""), None] {
        assert_eq!(content_disposition(dangerous, None), "attachment", "{dangerous:?}");
    }
}

#[test]
fn file_names_are_encoded() {
    let name = |name: &str| content_disposition(Some("image/png"), Some(name));
    assert_eq!(name("a b;c.txt"), "inline; filename=\"a b;c.txt\"");
    assert_eq!(name("say \"hi\"\\"), "inline; filename=\"say \\\"hi\\\"\\\\\"");
    assert_eq!(name("ü 1.png"), "inline; filename*=utf-8''%C3%BC%201.png");
    assert_eq!(name("a\r\nX-Evil: 1"), "inline; filename*=utf-8''a%0D%0AX-Evil%3A%201");
    assert_eq!(name(""), "inline");
}
