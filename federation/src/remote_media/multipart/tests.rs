use super::*;

/// Everything that comes out of these bytes fed in the given steps: data joined, heads by content type and location.
fn read(content_type: &str, bytes: &[u8], step: usize) -> Result<Vec<String>, MultipartError> {
    let mut reader = Multipart::of_content_type(content_type)?;
    let (mut pieces, mut data) = (Vec::new(), Vec::new());
    for chunk in bytes.chunks(step) {
        reader.feed(chunk);
        while let Some(piece) = reader.next_piece()? {
            assert!(piece != Piece::Data(Bytes::new()), "no empty pieces");
            match piece {
                Piece::Data(bytes) => data.extend_from_slice(&bytes),
                Piece::Head(head) => pieces.push(format!(
                    "head {} {}",
                    head.content_type.unwrap_or_default(),
                    head.location.or(head.content_disposition).unwrap_or_default()
                )),
                Piece::EndOfPart => {
                    pieces.push(format!("data {}", String::from_utf8_lossy(&std::mem::take(&mut data))))
                }
                Piece::End => pieces.push("end".into()),
            }
        }
        assert!(reader.buffer.len() <= MAX_HEAD + HEAD_END.len() + step, "{} bytes are kept", reader.buffer.len());
    }
    Ok(pieces)
}

const TYPE: &str = "multipart/mixed; boundary=abc";

#[test]
fn the_two_parts_come_out_however_the_bytes_arrive() {
    let head = "Content-Type: application/json\r\n";
    let tables: &[(String, &[&str])] = &[
        (
            format!("--abc\r\n{head}\r\n{{}}\r\n--abc\r\nContent-Type: text/plain\r\n\r\nhello\r\n--abc--\r\n"),
            &["head application/json ", "data {}", "head text/plain ", "data hello", "end"],
        ),
        (
            format!("\r\n--abc\r\n{head}\r\n{{}}\r\n--abc\r\nLOCATION:https://x.example/y \r\n\r\n\r\n--abc--"),
            &["head application/json ", "data {}", "head  https://x.example/y", "data ", "end"],
        ),
        (
            "preamble\r\n--abc \t\r\n\r\nno head\r\n--abc\r\nA: b\r\n\r\n\r\n--abc--epilogue\r\n--abc\r\n".into(),
            &["head  ", "data no head", "head  ", "data ", "end"],
        ),
        (
            "--abc\r\nA: b\r\n\r\n--abc\r\n\r\n---abcde\r\n--ab\r\n-\r\n--abc--".into(),
            &["head  ", "data ", "head  ", "data ---abcde\r\n--ab\r\n-", "end"],
        ),
        (
            "--abc\r\n\r\n\r\n\r\r\n\n\r\n\r\n--ab\r\n--abc--".into(),
            &["head  ", "data \r\n\r\r\n\n\r\n\r\n--ab", "end"],
        ),
        ("--abc--".into(), &["end"]),
        ("--abc\r\n\r\ncut off".into(), &["head  "]),
    ];
    for (text, expected) in tables {
        for step in (1..=text.len()).chain([1000]) {
            let found = read(TYPE, text.as_bytes(), step);
            assert_eq!(
                found.as_deref(),
                Ok(&expected.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
                "{text:?} by {step}"
            );
        }
    }
}

#[test]
fn content_of_any_bytes_is_kept_as_it_is() {
    let content: Vec<u8> = (0..100_000u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let mut bytes = b"--abc\r\nContent-Type: x/y\r\n\r\n".to_vec();
    bytes.extend_from_slice(&content);
    bytes.extend_from_slice(b"\r\n--abc--");
    for step in [7, 64, 4096, 1_000_000] {
        let mut reader = Multipart::of_content_type(TYPE).unwrap();
        let mut data = Vec::new();
        for chunk in bytes.chunks(step) {
            reader.feed(chunk);
            while let Some(piece) = reader.next_piece().unwrap() {
                if let Piece::Data(bytes) = piece {
                    data.extend_from_slice(&bytes);
                }
            }
        }
        assert!(data == content && reader.state == State::Done, "by {step}");
    }
}

#[test]
fn hostile_bytes_are_refused_before_they_are_kept() {
    let long = "x".repeat(MAX_HEAD + 10);
    for (text, error) in [
        ("x".repeat(MAX_PREAMBLE + 20), MultipartError::Preamble),
        (format!("{}--abc--", "\r\n-".repeat(3000)), MultipartError::Preamble),
        ("--abcx\r\n\r\n".into(), MultipartError::Delimiter),
        ("--abc-x\r\n\r\n".into(), MultipartError::Delimiter),
        ("--abc\n\n".into(), MultipartError::Delimiter),
        (format!("--abc{}\r\n\r\n", " ".repeat(MAX_PADDING + 1)), MultipartError::Delimiter),
        (format!("--abc\r\nA: {long}"), MultipartError::Head),
        (format!("--abc\r\nA: {long}\r\n\r\n"), MultipartError::Head),
        (format!("--abc\r\n{}\r\n", "A: b\r\n".repeat(MAX_HEAD_LINES + 1)), MultipartError::Head),
        ("--abc\r\nno colon\r\n\r\n".into(), MultipartError::Head),
        ("--abc\r\n: no name\r\n\r\n".into(), MultipartError::Head),
        ("--abc\r\nA: b\r\n folded\r\n\r\n".into(), MultipartError::Head),
        ("--abc\r\nA\u{e9}: b\r\n\r\n".into(), MultipartError::Head),
    ] {
        for step in [1, 3, 1_000_000] {
            assert_eq!(read(TYPE, text.as_bytes(), step), Err(error), "{text:.30?} by {step}");
        }
    }
}

#[test]
fn only_a_good_boundary_of_the_right_type_is_taken() {
    let longest = "b".repeat(MAX_BOUNDARY);
    for good in [
        TYPE.to_owned(),
        "Multipart/Mixed;charset=utf-8; BOUNDARY=\"a b'()+_,-./:=?c\"; x=y".into(),
        format!("multipart/mixed; boundary={longest}"),
    ] {
        assert!(Multipart::of_content_type(&good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "multipart/mixed",
        "multipart/mixed; boundary=",
        "multipart/mixed; boundary=\"\"",
        "multipart/mixed; boundary=\"a \"",
        "multipart/mixed; boundary=\"a\r\nb\"",
        "multipart/mixed; boundary=é",
        "multipart/mixed; bound=abc",
        "multipart/form-data; boundary=abc",
        "text/html; boundary=abc",
        &format!("multipart/mixed; boundary={longest}b"),
    ] {
        assert_eq!(Multipart::of_content_type(bad).err(), Some(MultipartError::Boundary), "{bad}");
    }
}
