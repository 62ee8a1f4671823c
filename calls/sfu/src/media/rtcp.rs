//! The reports of receivers that we act on ourselves: what is missing, and when packets came (RFC 4585,
//! draft-holmer-rmcat-transport-wide-cc-extensions-01). The engine reads all others.

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::bandwidth::Outcome;

const VERSION: u8 = 2;
const TRANSPORT_FEEDBACK: u8 = 205;
const NACK: u8 = 1;
const TRANSPORT_CC: u8 = 15;
/// The unit of a feedback's reference time, and of its steps.
const REFERENCE: Duration = Duration::from_millis(64);
const STEP_MICROS: i64 = 250;
/// A feedback on more packets is nothing that receivers send, and would cost much for a few bytes.
const MOST_PACKETS: usize = 4096;
/// The reference time has 24 bits.
const REFERENCE_BITS: u32 = 24;

/// Whether a datagram is a report, and not a media packet (RFC 5761 section 4).
pub fn is_report(datagram: &[u8]) -> bool {
    matches!(datagram, [128..=191, 192..=223, ..])
}

/// Whether a datagram is a media packet.
pub fn is_media(datagram: &[u8]) -> bool {
    matches!(datagram, [128..=191, ..]) && !is_report(datagram)
}

/// One of the reports in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report<'a> {
    /// Packets of `ssrc` are missing: pairs of a number and a mask of those after it.
    Missing { ssrc: u32, pairs: &'a [u8] },
    /// When packets came; for [`Arrivals::read`].
    Arrivals(&'a [u8]),
    /// Something for the engine, or nothing that can be read.
    Other,
}

/// The reports in a packet.
pub fn reports(packet: &[u8]) -> impl Iterator<Item = Report<'_>> {
    let mut rest = packet;
    std::iter::from_fn(move || {
        let [first, kind, high, low, ..] = rest else { return None };
        let length = (usize::from(u16::from_be_bytes([*high, *low])) + 1) * 4;
        let Some((report, after)) = rest.split_at_checked(length).filter(|_| first >> 6 == VERSION) else {
            rest = &[];
            return Some(Report::Other);
        };
        rest = after;
        // A head of four bytes, who says it, and of which stream.
        let ssrc = report.get(8..).and_then(<[u8]>::first_chunk).map(|ssrc| u32::from_be_bytes(*ssrc));
        Some(match (*kind, first & 0x1f, ssrc, report.get(12..)) {
            (TRANSPORT_FEEDBACK, NACK, Some(ssrc), Some(pairs)) => Report::Missing { ssrc, pairs },
            (TRANSPORT_FEEDBACK, TRANSPORT_CC, _, Some(body)) => Report::Arrivals(body),
            _ => Report::Other,
        })
    })
}

/// The numbers in the pairs of [`Report::Missing`] (RFC 4585 section 6.2.1).
pub fn missing(pairs: &[u8]) -> impl Iterator<Item = u16> + '_ {
    let (pairs, _) = pairs.as_chunks::<4>();
    pairs.iter().flat_map(|[a, b, c, d]| {
        let (first, mask) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
        let after = (0..16).filter(move |bit| mask >> bit & 1 == 1).map(move |bit| first.wrapping_add(bit + 1));
        std::iter::once(first).chain(after)
    })
}

/// Reads when packets came. The receiver's clock wraps after days.
#[derive(Debug, Default)]
pub struct Arrivals {
    reference: Option<u64>,
}

/// What is said of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Symbol {
    Lost,
    Small,
    Large,
}

impl Symbol {
    fn of(bits: u16) -> Symbol {
        match bits & 3 {
            1 => Symbol::Small,
            2 => Symbol::Large,
            _ => Symbol::Lost,
        }
    }
}

impl Arrivals {
    /// The outcomes of the packets in a feedback, whose numbers are at most `newest`, the number sent last. `None` for one that
    /// cannot be read to its end, or is on too many.
    pub fn read(&mut self, body: &[u8], newest: u64, outcomes: &mut Vec<Outcome>) -> Option<()> {
        let [base_high, base_low, count_high, count_low, a, b, c, _, rest @ ..] = body else { return None };
        let base = u16::from_be_bytes([*base_high, *base_low]);
        let count = usize::from(u16::from_be_bytes([*count_high, *count_low]));
        if count > MOST_PACKETS {
            return None;
        }
        let first = newest.checked_sub(u64::from((newest as u16).wrapping_sub(base)))?;
        let reference = self.unwrap_reference(u32::from_be_bytes([0, *a, *b, *c]));
        let mut symbols = Vec::with_capacity(count.min(256));
        let mut chunks = rest;
        while symbols.len() < count {
            let (chunk, after) = chunks.split_first_chunk::<2>()?;
            chunks = after;
            push_symbols(u16::from_be_bytes(*chunk), count, &mut symbols);
        }
        let mut micros = i64::try_from(REFERENCE.as_micros()).ok()?.checked_mul(i64::try_from(reference).ok()?)?;
        let mut steps = chunks.iter().copied();
        for (number, symbol) in (first..).zip(symbols) {
            let step = match symbol {
                Symbol::Lost => None,
                Symbol::Small => Some(i64::from(steps.next()?)),
                Symbol::Large => Some(i64::from(i16::from_be_bytes([steps.next()?, steps.next()?]))),
            };
            let arrival = step.map(|step| {
                micros = micros.saturating_add(step.saturating_mul(STEP_MICROS));
                Duration::from_micros(u64::try_from(micros).unwrap_or(0))
            });
            outcomes.push(Outcome { number, arrival });
        }
        Some(())
    }

    /// The reference time nearest to the last one.
    fn unwrap_reference(&mut self, reference: u32) -> u64 {
        const ROUND: u64 = 1 << REFERENCE_BITS;
        // Begins with the second round, so that the clock may go back.
        let last = self.reference.unwrap_or(ROUND + u64::from(reference));
        let forward = u64::from(reference).wrapping_sub(last) % ROUND;
        let now = if forward < ROUND / 2 { last + forward } else { (last + forward).saturating_sub(ROUND) };
        self.reference = Some(now);
        now
    }
}

/// A run of one symbol, or a list of symbols of one or two bits; no more than `count` in all.
fn push_symbols(chunk: u16, count: usize, symbols: &mut Vec<Symbol>) {
    const LIST: u16 = 0x8000;
    const OF_TWO_BITS: u16 = 0x4000;
    let room = count.saturating_sub(symbols.len());
    if chunk & LIST == 0 {
        let run = usize::from(chunk & 0x1fff).min(room);
        symbols.extend(std::iter::repeat_n(Symbol::of(chunk >> 13), run));
    } else if chunk & OF_TWO_BITS == 0 {
        symbols.extend((0..14).rev().map(|at| Symbol::of(chunk >> at & 1)).take(room));
    } else {
        symbols.extend((0..7).rev().map(|at| Symbol::of(chunk >> (2 * at))).take(room));
    }
}
