//! Keeps the sequence numbers, times and picture numbers of a line continuous while what is sent on it
//! changes from one source (a simulcast layer, another track) to another.

#[cfg(test)]
mod tests;

use std::time::Instant;

use super::codec::Vp8;

/// Where the first packet of a line begins: low, so that the receiver's rollover counter starts at 0.
const FIRST_SEQ: u64 = 1000;
const PICTURE_MASK: u16 = 0x7fff;
const NARROW_PICTURE_MASK: u16 = 0x7f;
const KEY_IDX_MASK: u8 = 0x1f;

/// The numbers of a line. One source is sent at a time; [`Munger::switch`] begins with another.
#[derive(Clone, Debug, Default)]
pub struct Munger {
    sent: Option<Sent>,
    /// The first sequence number of the source; what comes late from before it is not sent.
    source_start: u64,
    seq_offset: i64,
    time_offset: u32,
    picture_offset: u16,
    tl0_offset: u8,
    key_idx_offset: u8,
}

/// The highest numbers sent so far.
#[derive(Clone, Copy, Debug)]
struct Sent {
    seq: u64,
    time: u32,
    at: Instant,
    picture: u16,
    tl0: u8,
    key_idx: u8,
}

/// What a packet is to be sent with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Munged {
    pub seq: u64,
    pub time: u32,
    /// Whether its sequence number is higher than all before on the line.
    pub newest: bool,
}

/// The numbers of a VP8 packet; `None` where the packet has no such number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MungedVp8 {
    pub picture_id: Option<u16>,
    pub tl0: Option<u8>,
    pub key_idx: Option<u8>,
}

impl Munger {
    /// The next packet is the first of another source: it follows what was sent last. `clock_rate` is in
    /// Hz; `at` is when the packet arrived.
    pub fn switch(&mut self, seq: u64, time: u32, vp8: Option<&Vp8>, at: Instant, clock_rate: u32) {
        self.source_start = seq;
        let Some(sent) = self.sent else {
            self.seq_offset = difference(FIRST_SEQ, seq);
            return;
        };
        self.seq_offset = difference(sent.seq.saturating_add(1), seq);
        let passed =
            at.saturating_duration_since(sent.at).as_micros().saturating_mul(u128::from(clock_rate)) / 1_000_000;
        // At least one tick, or two frames would have one time. A pause of 13 hours wraps as RTP time does.
        let next = sent.time.wrapping_add((passed as u32).max(1));
        self.time_offset = next.wrapping_sub(time);
        if let Some(vp8) = vp8 {
            let picture = vp8.picture_id.map_or(0, |(id, _)| id);
            self.picture_offset = sent.picture.wrapping_add(1).wrapping_sub(picture);
            self.tl0_offset = sent.tl0.wrapping_add(1).wrapping_sub(vp8.tl0.unwrap_or(0));
            self.key_idx_offset = sent.key_idx.wrapping_add(1).wrapping_sub(vp8.key_idx.unwrap_or(0));
        }
    }

    /// The numbers of a packet of the present source, or `None` when it is older than the source.
    pub fn renumber(&mut self, seq: u64, time: u32, at: Instant) -> Option<Munged> {
        if seq < self.source_start {
            return None;
        }
        let seq = seq.checked_add_signed(self.seq_offset)?;
        let time = time.wrapping_add(self.time_offset);
        let newest = self.sent.is_none_or(|sent| seq > sent.seq);
        match &mut self.sent {
            Some(_) if !newest => {}
            Some(sent) => (sent.seq, sent.time, sent.at) = (seq, time, at),
            None => self.sent = Some(Sent { seq, time, at, picture: 0, tl0: 0, key_idx: 0 }),
        }
        Some(Munged { seq, time, newest })
    }

    /// The picture numbers of the packet that [`Munger::renumber`] has just let through.
    pub fn renumber_vp8(&mut self, vp8: &Vp8, newest: bool) -> MungedVp8 {
        let munged = MungedVp8 {
            picture_id: vp8.picture_id.map(|(id, wide)| {
                id.wrapping_add(self.picture_offset) & if wide { PICTURE_MASK } else { NARROW_PICTURE_MASK }
            }),
            tl0: vp8.tl0.map(|tl0| tl0.wrapping_add(self.tl0_offset)),
            key_idx: vp8.key_idx.map(|key_idx| key_idx.wrapping_add(self.key_idx_offset) & KEY_IDX_MASK),
        };
        if let (Some(sent), true) = (&mut self.sent, newest) {
            sent.picture = munged.picture_id.unwrap_or(sent.picture);
            sent.tl0 = munged.tl0.unwrap_or(sent.tl0);
            sent.key_idx = munged.key_idx.unwrap_or(sent.key_idx);
        }
        munged
    }

    /// The highest sequence number sent so far.
    #[cfg(feature = "fuzzing")]
    pub fn sent_seq(&self) -> Option<u64> {
        self.sent.map(|sent| sent.seq)
    }
}

/// `to - from`, for numbers that are below 2^48 and so always fit.
fn difference(to: u64, from: u64) -> i64 {
    (to as i64).wrapping_sub(from as i64)
}
