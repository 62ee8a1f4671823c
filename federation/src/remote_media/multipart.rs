//! Reading `multipart/mixed` as it arrives (RFC 2046 §5.1), with bounded memory whatever is sent.
//!
//! Pure: bytes go in by [`Multipart::feed`], pieces come out of [`Multipart::next_piece`]. Between the two, no more is
//! kept than what was fed last, and [`MAX_HEAD`] bytes.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;

use super::parameters::find_parameter;

#[cfg(test)]
mod tests;

/// The longest boundary (RFC 2046 §5.1.1).
const MAX_BOUNDARY: usize = 70;
/// What may stand before the first part, in bytes.
const MAX_PREAMBLE: usize = 4 * 1024;
/// White space that may follow a boundary on its line, in bytes.
const MAX_PADDING: usize = 64;
/// The longest head of a part, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// The most lines of a head.
const MAX_HEAD_LINES: usize = 64;

const LINE_END: &[u8] = b"\r\n";
const HEAD_END: &[u8] = b"\r\n\r\n";

/// What is wrong with the bytes of another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MultipartError {
    /// The content type names no usable boundary.
    #[error("no valid boundary is given")]
    Boundary,
    /// Too much stands before the first part.
    #[error("too much stands before the first part")]
    Preamble,
    /// A boundary is followed by something else than the end of its line.
    #[error("a boundary is followed by other text")]
    Delimiter,
    /// A head is too long, or not made of header lines.
    #[error("the head of a part is not valid")]
    Head,
}

/// The headers of a part that are of use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PartHead {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Location`.
    pub location: Option<String>,
}

/// A piece of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A part begins.
    Head(PartHead),
    /// Bytes of the part that began last.
    Data(Bytes),
    /// The part is over.
    EndOfPart,
    /// The closing boundary: all parts were there. Nothing follows.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first boundary.
    Preamble { skipped: usize },
    /// After a boundary, before the end of its line.
    Delimiter,
    /// In a head; the buffer begins with the end of the line before it.
    Head,
    /// In a body; `skip` bytes of the buffer are the end of the head, and belong to it no longer than until it turns out
    /// that they are not the beginning of the next boundary.
    Body { skip: usize },
    /// After the closing boundary.
    Done,
}

/// The reader.
#[derive(Debug)]
pub(crate) struct Multipart {
    /// What ends a part: an end of line, two dashes, the boundary.
    delimiter: memmem::Finder<'static>,
    delimiter_bytes: usize,
    buffer: BytesMut,
    state: State,
}

impl Multipart {
    /// A reader for the boundary that a `Content-Type` names.
    ///
    /// # Errors
    /// `Boundary` if the type is not `multipart/mixed`, or names no valid boundary.
    pub fn of_content_type(content_type: &str) -> Result<Multipart, MultipartError> {
        let (essence, parameters) = content_type.split_once(';').ok_or(MultipartError::Boundary)?;
        if !essence.trim().eq_ignore_ascii_case("multipart/mixed") {
            return Err(MultipartError::Boundary);
        }
        let boundary = find_parameter(parameters, "boundary").ok_or(MultipartError::Boundary)?;
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
        if boundary.is_empty()
            || boundary.len() > MAX_BOUNDARY
            || boundary.ends_with(' ')
            || !boundary.bytes().all(is_allowed)
        {
            return Err(MultipartError::Boundary);
        }
        let delimiter = format!("\r\n--{boundary}");
        Ok(Multipart {
            delimiter: memmem::Finder::new(&delimiter).into_owned(),
            delimiter_bytes: delimiter.len(),
            // The first boundary may stand at the very beginning, without a line before it.
            buffer: BytesMut::from(LINE_END),
            state: State::Preamble { skipped: 0 },
        })
    }

    /// Takes in bytes. All pieces are to be taken out before the next call, or the memory grows.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.state != State::Done {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next piece, as far as it can be told from the bytes fed; `None` until there are more, and after the end.
    ///
    /// # Errors
    /// What is wrong; the reader is of no use then.
    pub fn next_piece(&mut self) -> Result<Option<Piece>, MultipartError> {
        loop {
            match self.state {
                State::Preamble { skipped } => {
                    if !self.skip_preamble(skipped)? {
                        return Ok(None);
                    }
                }
                State::Delimiter => {
                    if self.buffer.starts_with(b"--") {
                        self.buffer = BytesMut::new();
                        self.state = State::Done;
                        return Ok(Some(Piece::End));
                    }
                    if !self.skip_padding()? {
                        return Ok(None);
                    }
                }
                State::Head => return self.take_head(),
                State::Body { skip } => return Ok(self.take_data(skip)),
                State::Done => return Ok(None),
            }
        }
    }

    /// Whether the first boundary was found.
    fn skip_preamble(&mut self, skipped: usize) -> Result<bool, MultipartError> {
        let found = self.delimiter.find(&self.buffer);
        let skip = found.unwrap_or_else(|| self.buffer.len().saturating_sub(self.delimiter_bytes - 1));
        let skipped = skipped.saturating_add(skip);
        if skipped > MAX_PREAMBLE {
            return Err(MultipartError::Preamble);
        }
        self.buffer.advance(skip);
        self.state = State::Preamble { skipped };
        if found.is_some() {
            self.buffer.advance(self.delimiter_bytes);
            self.state = State::Delimiter;
        }
        Ok(found.is_some())
    }

    /// Whether the end of the boundary's line was found.
    fn skip_padding(&mut self) -> Result<bool, MultipartError> {
        let is_space = |byte: &&u8| matches!(byte, b' ' | b'\t');
        let padding = self.buffer.iter().take_while(is_space).count();
        let rest = self.buffer.get(padding..).unwrap_or_default();
        if padding > MAX_PADDING
            || !(rest.starts_with(LINE_END) || LINE_END.starts_with(rest) || (padding == 0 && rest == b"-"))
        {
            return Err(MultipartError::Delimiter);
        }
        if rest.len() < LINE_END.len() {
            return Ok(false);
        }
        self.buffer.advance(padding);
        self.state = State::Head;
        Ok(true)
    }

    fn take_head(&mut self) -> Result<Option<Piece>, MultipartError> {
        let Some(end) = memmem::find(&self.buffer, HEAD_END) else {
            // The last bytes may be the beginning of the end.
            let least = self.buffer.len().saturating_sub(HEAD_END.len() - 1);
            return if least > MAX_HEAD { Err(MultipartError::Head) } else { Ok(None) };
        };
        if end > MAX_HEAD {
            return Err(MultipartError::Head);
        }
        let head = self.buffer.split_to(end);
        let head = parse_head(head.get(LINE_END.len()..).unwrap_or_default())?;
        // What is left of the head is two ends of lines. The second may be the beginning of the next boundary already,
        // if the part is empty.
        self.buffer.advance(LINE_END.len());
        self.state = State::Body { skip: LINE_END.len() };
        Ok(Some(Piece::Head(head)))
    }

    fn take_data(&mut self, skip: usize) -> Option<Piece> {
        let found = self.delimiter.find(&self.buffer);
        // Without a boundary, the last bytes may be the beginning of one.
        let end = found.unwrap_or_else(|| self.buffer.len().saturating_sub(self.delimiter_bytes - 1));
        if end > skip {
            let mut data = self.buffer.split_to(end);
            data.advance(skip);
            self.state = State::Body { skip: 0 };
            return Some(Piece::Data(data.freeze()));
        }
        found?;
        self.buffer.advance(end.saturating_add(self.delimiter_bytes));
        self.state = State::Delimiter;
        Some(Piece::EndOfPart)
    }
}

/// Reads the lines of a head. Of headers given twice the first counts; values that are not UTF-8 are left out.
fn parse_head(bytes: &[u8]) -> Result<PartHead, MultipartError> {
    let mut head = PartHead::default();
    let mut rest = bytes;
    for _ in 0..MAX_HEAD_LINES {
        if rest.is_empty() {
            return Ok(head);
        }
        let end = memmem::find(rest, LINE_END).unwrap_or(rest.len());
        let (line, after) = rest.split_at(end);
        rest = after.get(LINE_END.len()..).unwrap_or_default();
        let colon = line.iter().position(|byte| *byte == b':').ok_or(MultipartError::Head)?;
        let (name, value) = line.split_at(colon);
        if name.is_empty() || !name.iter().all(|byte| byte.is_ascii_graphic()) {
            return Err(MultipartError::Head);
        }
        let value = std::str::from_utf8(value).ok().and_then(|value| value.strip_prefix(':')).map(str::trim);
        let field = if name.eq_ignore_ascii_case(b"content-type") {
            &mut head.content_type
        } else if name.eq_ignore_ascii_case(b"content-disposition") {
            &mut head.content_disposition
        } else if name.eq_ignore_ascii_case(b"location") {
            &mut head.location
        } else {
            continue;
        };
        if field.is_none() {
            *field = value.filter(|value| !value.is_empty()).map(str::to_owned);
        }
    }
    if rest.is_empty() { Ok(head) } else { Err(MultipartError::Head) }
}
