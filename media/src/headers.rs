//! Decisions about response headers, as pure functions.

use std::fmt::Write as _;

/// The `Content-Security-Policy` of every media response. Client-Server API §Content repository.
pub const CONTENT_SECURITY_POLICY: &str = "sandbox; default-src 'none'; script-src 'none'; \
     plugin-types application/pdf; style-src 'unsafe-inline'; object-src 'self';";

/// The content types that may be shown inline. Client-Server API §Serving inline content.
const INLINE_TYPES: [&str; 26] = [
    "text/css",
    "text/plain",
    "text/csv",
    "application/json",
    "application/ld+json",
    "image/jpeg",
    "image/gif",
    "image/png",
    "image/apng",
    "image/webp",
    "image/avif",
    "video/mp4",
    "video/webm",
    "video/ogg",
    "video/quicktime",
    "audio/mp4",
    "audio/webm",
    "audio/aac",
    "audio/mpeg",
    "audio/ogg",
    "audio/wave",
    "audio/wav",
    "audio/x-wav",
    "audio/x-pn-wav",
    "audio/flac",
    "audio/x-flac",
];

/// Whether content of this type may be shown inline. Parameters such as `charset` do not matter.
pub fn is_inline_type(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    INLINE_TYPES.iter().any(|inline| inline.eq_ignore_ascii_case(essence))
}

/// The `Content-Disposition` for content of this type (none: unknown, hence never inline) and file name.
/// A name of printable ASCII is quoted; any other is given in the extended form only (RFC 6266, RFC 8187).
pub fn content_disposition(content_type: Option<&str>, file_name: Option<&str>) -> String {
    let inline = content_type.is_some_and(is_inline_type);
    let mut header = String::from(if inline { "inline" } else { "attachment" });
    let Some(name) = file_name.filter(|name| !name.is_empty()) else { return header };
    if name.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        header.push_str("; filename=\"");
        for c in name.chars() {
            if matches!(c, '"' | '\\') {
                header.push('\\');
            }
            header.push(c);
        }
        header.push('"');
        return header;
    }
    header.push_str("; filename*=utf-8''");
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
            header.push(char::from(byte));
        } else {
            // Writing to a String never fails.
            let _ = write!(header, "%{byte:02X}");
        }
    }
    header
}

/// What a `Range` header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeRequest {
    /// The whole content: no range, several ranges, or a header that is not understood (200).
    Whole,
    /// The bytes from `first` to `last`, both included; never empty, always within the content (206).
    Part {
        /// Index of the first byte.
        first: u64,
        /// Index of the last byte.
        last: u64,
    },
    /// A range outside the content (416).
    Unsatisfiable,
}

/// Reads a `Range` header for content of `length` bytes (RFC 9110 §14). Only a single byte range is honoured.
pub fn parse_range(header: Option<&str>, length: u64) -> RangeRequest {
    let Some(set) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else { return RangeRequest::Whole };
    let Some((first, last)) = set.trim().split_once('-') else { return RangeRequest::Whole };
    match (parse_index(first), parse_index(last)) {
        (Some(Some(first)), Some(last)) if last.is_none_or(|last| first <= last) => {
            if first >= length {
                return RangeRequest::Unsatisfiable;
            }
            let end = length - 1;
            RangeRequest::Part { first, last: last.map_or(end, |last| last.min(end)) }
        }
        (Some(None), Some(Some(suffix))) => {
            if suffix == 0 || length == 0 {
                return RangeRequest::Unsatisfiable;
            }
            RangeRequest::Part { first: length.saturating_sub(suffix), last: length - 1 }
        }
        _ => RangeRequest::Whole,
    }
}

/// An index, `Some(None)` if there is none, `None` if it is no number. Numbers beyond 64 bits are the largest.
fn parse_index(text: &str) -> Option<Option<u64>> {
    if text.is_empty() {
        return Some(None);
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| Some(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests;
