//! Elements of EBML (RFC 8794), of which WebM files are made.

/// The widest size that is written: eight bytes, of which 56 bits count.
const WIDEST: u64 = (1 << 56) - 1;

/// Appends an element's identifier, which has its marker in it.
pub fn put_id(out: &mut Vec<u8>, id: u32) {
    let bytes = id.to_be_bytes();
    let skipped = usize::try_from(id.leading_zeros() / 8).unwrap_or(0).min(3);
    out.extend(bytes.iter().skip(skipped));
}

/// Appends a size in as few bytes as it takes. All ones mean an unknown size and are never written for a known one.
pub fn put_size(out: &mut Vec<u8>, size: u64) {
    let size = size.min(WIDEST - 1);
    let width = (1..8).find(|width| size < (1 << (7 * width)) - 1).unwrap_or(8);
    let marked = size | (1 << (7 * width));
    out.extend(marked.to_be_bytes().iter().skip(8 - width));
}

/// Appends a size in eight bytes; `None` for one that is not known.
pub fn put_wide_size(out: &mut Vec<u8>, size: Option<u64>) {
    let size = size.map_or(WIDEST, |size| size.min(WIDEST - 1));
    out.extend((size | (1 << 56)).to_be_bytes());
}

/// Appends an element of bytes, or of other elements.
pub fn put_bytes(out: &mut Vec<u8>, id: u32, content: &[u8]) {
    put_id(out, id);
    put_size(out, content.len() as u64);
    out.extend_from_slice(content);
}

/// Appends an unsigned number.
pub fn put_uint(out: &mut Vec<u8>, id: u32, value: u64) {
    let bytes = value.to_be_bytes();
    let skipped = usize::try_from(value.leading_zeros() / 8).unwrap_or(0).min(7);
    put_bytes(out, id, bytes.get(skipped..).unwrap_or_default());
}

/// Appends a floating-point number.
pub fn put_float(out: &mut Vec<u8>, id: u32, value: f64) {
    put_bytes(out, id, &value.to_be_bytes());
}

/// Appends an element that contains what `fill` writes.
pub fn put_parent(out: &mut Vec<u8>, id: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut content = Vec::new();
    fill(&mut content);
    put_bytes(out, id, &content);
}

/// Reads the elements of a buffer one after the other. What is malformed or cut off ends it.
pub struct Elements<'a>(pub &'a [u8]);

impl<'a> Iterator for Elements<'a> {
    /// The identifier and the content.
    type Item = (u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (id, size, begin) = read_head(self.0)?;
        let end = begin.checked_add(usize::try_from(size?).ok()?)?;
        let content = self.0.get(begin..end)?;
        self.0 = self.0.get(end..)?;
        Some((id, content))
    }
}

/// The identifier, the size (`None`: not known) and the length of both together.
pub fn read_head(bytes: &[u8]) -> Option<(u32, Option<u64>, usize)> {
    let width = usize::try_from(bytes.first()?.leading_zeros()).ok()?.checked_add(1).filter(|width| *width <= 4)?;
    let id = bytes.get(..width)?.iter().fold(0_u32, |id, byte| id << 8 | u32::from(*byte));
    let rest = bytes.get(width..)?;
    let size_width = usize::try_from(rest.first()?.leading_zeros()).ok()?.checked_add(1).filter(|width| *width <= 8)?;
    let marked = rest.get(..size_width)?.iter().fold(0_u64, |size, byte| size << 8 | u64::from(*byte));
    let mask = (1_u64 << (7 * size_width)) - 1;
    let size = Some(marked & mask).filter(|size| *size != mask);
    Some((id, size, width + size_width))
}

/// An unsigned number.
pub fn read_uint(content: &[u8]) -> Option<u64> {
    (content.len() <= 8).then(|| content.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        // The largest and smallest of each width.
        for width in 1..=8_u32 {
            for size in [(1_u64 << (7 * (width - 1))) - 1, (1 << (7 * (width - 1))), (1 << (7 * width)) - 2] {
                let mut out = Vec::new();
                put_id(&mut out, 0x1a45_dfa3);
                put_size(&mut out, size);
                assert_eq!(read_head(&out), Some((0x1a45_dfa3, Some(size), out.len())), "{size}");
            }
        }
        for id in [0xa3, 0x4286, 0x2a_d7b1, 0x1f43_b675] {
            let mut out = Vec::new();
            put_uint(&mut out, id, 0x01_0203);
            assert_eq!(Elements(&out).next(), Some((id, &[1, 2, 3][..])));
        }
        for value in [0, 1, 255, 256, u64::MAX] {
            let mut out = Vec::new();
            put_uint(&mut out, 0xe7, value);
            assert_eq!(Elements(&out).next().and_then(|(_, content)| read_uint(content)), Some(value));
        }
    }

    #[test]
    fn sizes_that_are_not_known_are_told_apart() {
        let mut out = Vec::new();
        put_id(&mut out, 0x1853_8067);
        put_wide_size(&mut out, None);
        assert_eq!(read_head(&out), Some((0x1853_8067, None, 12)));
        assert!(Elements(&out).next().is_none());
    }

    #[test]
    fn what_is_cut_off_ends_the_reading() {
        let mut out = Vec::new();
        put_parent(&mut out, 0xae, |inner| put_uint(inner, 0xd7, 1));
        for cut in 0..out.len() {
            assert!(Elements(&out[..cut]).next().is_none(), "{cut}");
        }
        assert_eq!(Elements(&out).count(), 1);
    }
}
