//! ChannelData (RFC 8656 §12.4), and where a message ends in a stream (§12.5, RFC 8489 §6.2.2).

use super::HEADER;

/// The longest message or ChannelData taken from a stream, in bytes: ten times what media needs.
pub(crate) const MAX_FRAME: usize = 16 * 1024;

/// What comes in a stream is neither a message nor ChannelData, or too long; the client's fault, which cannot be
/// recovered from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// The first byte begins nothing known.
    #[error("neither STUN nor ChannelData")]
    Unknown,
    /// Longer than [`MAX_FRAME`].
    #[error("the message is too long")]
    TooLong,
}

/// The length of the first frame in `bytes` with its padding; `None` while too few bytes are there to tell.
///
/// # Errors
/// [`FrameError`] when no frame begins here, or one that is too long.
pub(crate) fn frame_len(bytes: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some([first, _, l0, l1]) = bytes.first_chunk::<4>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([*l0, *l1]));
    let whole = match first {
        0x00..=0x3f => HEADER + length,
        0x40..=0x7f => 4 + length.next_multiple_of(4),
        _ => return Err(FrameError::Unknown),
    };
    if whole > MAX_FRAME { Err(FrameError::TooLong) } else { Ok(Some(whole)) }
}

/// Reads ChannelData: the channel, and the data without padding. `None` for something else.
pub(crate) fn channel_data(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let ([c0, c1, l0, l1], rest) = bytes.split_first_chunk::<4>()?;
    let channel = u16::from_be_bytes([*c0, *c1]);
    let data = rest.get(..usize::from(u16::from_be_bytes([*l0, *l1])))?;
    (0x4000..=0x7fff).contains(&channel).then_some((channel, data))
}

/// What stands before `len` bytes of data on `channel`. `None` for more than ChannelData can carry.
pub(crate) fn channel_header(channel: u16, len: usize) -> Option<[u8; 4]> {
    let [c0, c1] = channel.to_be_bytes();
    let [l0, l1] = u16::try_from(len).ok()?.to_be_bytes();
    Some([c0, c1, l0, l1])
}

/// The zeros after `len` bytes, up to a multiple of four.
pub(crate) fn padding(len: usize) -> &'static [u8] {
    match len % 4 {
        1 => &[0, 0, 0],
        2 => &[0, 0],
        3 => &[0],
        _ => &[],
    }
}
