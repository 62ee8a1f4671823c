use std::time::Duration;

use super::{ByteSize, ConfigSection, Span};

crate::config_section! {
    /// Outer.
    struct Outer {
        /// First line.
        /// Second line.
        size: ByteSize = ByteSize::mib(50), reloadable;
        /// A word nobody may see.
        word: Option<String> = None, secret, example("\"open sesame\"");
    }
    sections { inner: Inner }
}

crate::config_section! {
    /// Inner.
    struct Inner {
        /// How long.
        time: Span = Span::seconds(90);
    }
}

#[test]
fn a_section_carries_its_documentation_marks_and_defaults() {
    let info = Outer::INFO;
    let [size, word] = info.fields else { panic!("two fields expected, not {:?}", info.fields) };
    assert_eq!((size.name, size.docs), ("size", &[" First line.", " Second line."][..]));
    assert!(size.reloadable && !size.secret && word.secret && !word.reloadable);
    assert_eq!(word.example, Some("\"open sesame\""));
    assert_eq!(info.sections[0].0, "inner");
    assert_eq!(info.sections[0].1.docs, [" Inner."]);
    let json = serde_json::to_value(Outer::default()).unwrap();
    assert_eq!(json, serde_json::json!({"size": "50MiB", "word": null, "inner": {"time": "90s"}}));
}

#[test]
fn missing_keys_take_defaults_and_unknown_ones_are_refused() {
    let outer: Outer = serde_json::from_str(r#"{"word": "x", "inner": {}}"#).unwrap();
    assert_eq!(
        (outer.size, outer.word.as_deref(), outer.inner.time),
        (ByteSize::mib(50), Some("x"), Span::seconds(90))
    );
    assert!(serde_json::from_str::<Outer>(r#"{"sise": 1}"#).is_err());
}

#[test]
fn sizes_round_trip_and_take_units() {
    for (text, bytes) in [("50MiB", 50 << 20), ("10 MB", 10_000_000), ("512", 512), ("1kib", 1024), ("0B", 0)] {
        let size: ByteSize = text.parse().unwrap();
        assert_eq!(size, ByteSize(bytes), "{text}");
        assert_eq!(size.to_string().parse(), Ok(size), "{text}");
    }
    for text in ["", "MiB", "-1", "5 parsecs", "99999999999999GiB"] {
        assert!(text.parse::<ByteSize>().is_err(), "{text}");
    }
}

#[test]
fn durations_round_trip_and_take_units() {
    for (text, ms) in [("500ms", 500), ("30s", 30_000), ("1h 30m", 5_400_000), ("7d", 604_800_000), ("0s", 0)] {
        let span: Span = text.parse().unwrap();
        assert_eq!(span, Span(Duration::from_millis(ms)), "{text}");
        assert_eq!(span.to_string().parse(), Ok(span), "{text}");
    }
    for text in ["", "5", "m", "1.5h", "999999999999999999d"] {
        assert!(text.parse::<Span>().is_err(), "{text}");
    }
}
