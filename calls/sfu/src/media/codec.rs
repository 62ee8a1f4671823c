//! What a packet's payload says of itself before the encrypted part: key frames, and the VP8 descriptor.

#[cfg(test)]
mod tests;

use super::munger::MungedVp8;

/// The codecs whose payload is understood as far as needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    Vp8,
    Vp9,
    H264,
    Av1,
    /// Audio, and video whose key frames are not recognised: it is forwarded from the first packet on.
    Other,
}

impl Codec {
    /// Whether a receiver can begin to decode with this packet.
    pub fn starts_key_frame(self, payload: &[u8]) -> bool {
        match self {
            Codec::Vp8 => Vp8::parse(payload).is_some_and(|descriptor| descriptor.key_frame),
            Codec::Vp9 => starts_vp9_key(payload),
            Codec::H264 => starts_h264_key(payload),
            Codec::Av1 => payload.first().is_some_and(|header| header & 0x08 != 0),
            Codec::Other => true,
        }
    }
}

/// The payload descriptor of VP8 (RFC 7741 section 4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vp8 {
    /// The picture's number, and whether it has 15 bits instead of 7.
    pub picture_id: Option<(u16, bool)>,
    /// The number of the base temporal layer's picture.
    pub tl0: Option<u8>,
    /// The temporal layer.
    pub tid: Option<u8>,
    /// The temporal key frame's number.
    pub key_idx: Option<u8>,
    /// Whether the packet begins a key frame.
    pub key_frame: bool,
    /// Whether the packet begins a frame.
    pub starts_frame: bool,
    /// How many bytes the descriptor has; after it comes the frame.
    pub length: usize,
}

impl Vp8 {
    /// `None` when the payload is too short to be VP8.
    pub fn parse(payload: &[u8]) -> Option<Vp8> {
        let mut bytes = payload.iter().copied();
        let first = bytes.next()?;
        let mut descriptor = Vp8::default();
        if first & 0x80 != 0 {
            let extension = bytes.next()?;
            if extension & 0x80 != 0 {
                let high = bytes.next()?;
                descriptor.picture_id = Some(if high & 0x80 != 0 {
                    (u16::from_be_bytes([high & 0x7f, bytes.next()?]), true)
                } else {
                    (u16::from(high), false)
                });
            }
            if extension & 0x40 != 0 {
                descriptor.tl0 = Some(bytes.next()?);
            }
            if extension & 0x30 != 0 {
                let last = bytes.next()?;
                descriptor.tid = (extension & 0x20 != 0).then_some(last >> 6);
                descriptor.key_idx = (extension & 0x10 != 0).then_some(last & 0x1f);
            }
        }
        // The first partition begins here, and its first bit says whether the frame is a key frame.
        descriptor.starts_frame = first & 0x10 != 0 && first & 0x07 == 0;
        descriptor.length = payload.len().saturating_sub(bytes.len());
        let frame = bytes.next()?;
        descriptor.key_frame = descriptor.starts_frame && frame & 0x01 == 0;
        Some(descriptor)
    }
}

/// Writes other numbers into the descriptor of a VP8 payload, each as wide as it was (RFC 7741 section 4.2). What the descriptor
/// has no room for is left out.
pub fn rewrite_vp8(payload: &mut [u8], numbers: &MungedVp8) {
    let [first, extension, rest @ ..] = payload else { return };
    if *first & 0x80 == 0 {
        return;
    }
    let (has_id, has_tl0, has_key_idx) = (*extension & 0x80 != 0, *extension & 0x40 != 0, *extension & 0x10 != 0);
    let mut bytes = rest.iter_mut();
    if has_id {
        let Some(high) = bytes.next() else { return };
        let wide = *high & 0x80 != 0;
        let low = if wide { bytes.next() } else { None };
        match (numbers.picture_id, low) {
            (Some(id), Some(low)) => [*high, *low] = (id | 0x8000).to_be_bytes(),
            (Some(id), None) => *high = id as u8 & 0x7f,
            (None, _) => {}
        }
    }
    if has_tl0 && let (Some(byte), Some(tl0)) = (bytes.next(), numbers.tl0) {
        *byte = tl0;
    }
    if has_key_idx && let (Some(byte), Some(key_idx)) = (bytes.next(), numbers.key_idx) {
        *byte = *byte & 0xe0 | key_idx & 0x1f;
    }
}

/// RFC 9628 section 4.2: no inter-picture prediction, at the beginning of a frame of the lowest layer.
fn starts_vp9_key(payload: &[u8]) -> bool {
    let Some(first) = payload.first() else { return false };
    let (has_id, predicted, layered, begins) =
        (first & 0x80 != 0, first & 0x40 != 0, first & 0x20 != 0, first & 0x08 != 0);
    if predicted || !begins {
        return false;
    }
    if !layered {
        return true;
    }
    let wide = payload.get(1).is_some_and(|id| id & 0x80 != 0);
    let layer_at = 1 + usize::from(has_id) + usize::from(has_id && wide);
    payload.get(layer_at).is_some_and(|layer| (layer >> 1) & 0x07 == 0)
}

/// RFC 6184 section 5: a parameter set or an IDR slice, alone, aggregated, or the beginning of one in parts.
fn starts_h264_key(payload: &[u8]) -> bool {
    const IDR: u8 = 5;
    const SPS: u8 = 7;
    const STAP_A: u8 = 24;
    const FU_A: u8 = 28;
    let is_key = |header: u8| matches!(header & 0x1f, IDR | SPS);
    match payload {
        [header, _size_high, _size_low, inner, ..] if header & 0x1f == STAP_A => is_key(*inner),
        [header, part, ..] if header & 0x1f == FU_A => part & 0x80 != 0 && is_key(*part),
        [header, ..] => is_key(*header),
        [] => false,
    }
}
