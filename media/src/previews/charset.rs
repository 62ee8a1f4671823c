//! Which encoding a page is in (HTML §13.2.3, as far as it matters for what describes a page).

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};
use html5gum::{Token, Tokenizer};

/// How much of a page is searched for a declaration.
const DECLARED_WITHIN: usize = 2048;

/// The text of a page: by its byte order mark, its `Content-Type`, what it declares, and else UTF-8 if it is that.
pub(super) fn decode<'a>(bytes: &'a [u8], content_type: Option<&str>) -> Cow<'a, str> {
    let announced = || content_type.and_then(find_charset).and_then(|label| Encoding::for_label(label.as_bytes()));
    let encoding = announced().or_else(|| find_declared(bytes)).unwrap_or_else(|| guess(bytes));
    // A byte order mark wins over all of them.
    let (text, ..) = encoding.decode(bytes);
    text
}

/// UTF-8, even if the last character was cut off; else what pages without a declaration used to be in.
fn guess(bytes: &[u8]) -> &'static Encoding {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_some() => WINDOWS_1252,
        _ => UTF_8,
    }
}

/// The `charset` of a content type.
fn find_charset(content_type: &str) -> Option<&str> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches(['"', '\'']))
    })
}

/// What a page declares in a `meta` element or an XML declaration near its beginning.
fn find_declared(bytes: &[u8]) -> Option<&'static Encoding> {
    let head = bytes.get(..DECLARED_WITHIN).unwrap_or(bytes);
    let label = Tokenizer::new(head).flatten().find_map(|token| match token {
        Token::StartTag(tag) if **tag.name == *b"meta" => {
            let attribute = |name: &[u8]| tag.attributes.get(name).map(|value| String::from_utf8_lossy(value));
            if let Some(charset) = attribute(b"charset") {
                return Some(charset.into_owned());
            }
            let is_type = attribute(b"http-equiv")?.eq_ignore_ascii_case("content-type");
            let content = attribute(b"content").filter(|_| is_type)?;
            find_charset(&content).map(str::to_owned)
        }
        // An XML declaration is a comment to HTML.
        Token::Comment(comment) if comment.starts_with(b"?xml") => {
            let text = String::from_utf8_lossy(&comment).into_owned();
            let (_, value) = text.split_once("encoding=")?;
            let quote = value.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
            value.get(1..)?.split(quote).next().map(str::to_owned)
        }
        _ => None,
    })?;
    let encoding = Encoding::for_label(label.trim().as_bytes())?;
    // It was read as ASCII, so it cannot be true.
    Some(if encoding == UTF_16BE || encoding == UTF_16LE { UTF_8 } else { encoding })
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn the_encoding_is_announced_declared_or_guessed() {
        let cyrillic = b"\xcf\xf0\xe8\xe2\xe5\xf2";
        assert_eq!(decode(cyrillic, Some("text/html; charset=\"windows-1251\"")), "Привет");
        let declared = |head: &str| [head.as_bytes(), cyrillic].concat();
        for head in [
            "<html><meta charset=windows-1251>",
            "<META http-equiv=\"Content-Type\" content=\"text/html; charset=windows-1251\">",
            "<?xml version=\"1.0\" encoding=\"windows-1251\"?>",
        ] {
            assert!(decode(&declared(head), Some("text/html")).ends_with("Привет"), "{head}");
        }
        // What was announced wins over what is declared.
        let both = declared("<meta charset=koi8-r>");
        assert!(decode(&both, Some("text/html;charset=windows-1251")).ends_with("Привет"));
        assert_eq!(decode("grün".as_bytes(), None), "grün");
        assert_eq!(decode(&"grün".as_bytes()[..3], None), "gr\u{fffd}");
        assert_eq!(decode(b"gr\xfcn", Some("text/html; charset=nonsense")), "grün");
        assert_eq!(decode(b"\xef\xbb\xbfgr\xc3\xbcn", Some("text/html; charset=iso-8859-1")), "grün");
        assert_eq!(decode(b"<meta charset=utf-16>gr\xc3\xbcn", None), "<meta charset=utf-16>grün");
    }
}
