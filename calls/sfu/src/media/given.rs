//! Which sequence numbers of a stream were given out.

#[cfg(test)]
mod tests;

/// How far behind the newest a number may be and still be given out.
const REACH: u64 = 512;

/// The numbers of a stream; none is given out twice. The bit of a number is that of its rest by [`REACH`].
#[derive(Clone, Debug, Default)]
pub struct Given {
    bits: [u64; REACH as usize / 64],
    newest: Option<u64>,
}

impl Given {
    /// Gives out a number, if it is neither given out nor too old.
    pub fn take(&mut self, seq: u64) -> bool {
        match self.newest {
            Some(newest) if seq <= newest => {
                if newest - seq >= REACH || self.is_set(seq) {
                    return false;
                }
            }
            Some(newest) => {
                // What is left out can come later.
                for skipped in (newest + 1).max(seq.saturating_sub(REACH - 1))..seq {
                    self.set(skipped, false);
                }
                self.newest = Some(seq);
            }
            None => self.newest = Some(seq),
        }
        self.set(seq, true);
        true
    }

    fn is_set(&self, seq: u64) -> bool {
        let bit = seq % REACH;
        self.bits.get((bit / 64) as usize).is_some_and(|bits| bits >> (bit % 64) & 1 == 1)
    }

    fn set(&mut self, seq: u64, given: bool) {
        let bit = seq % REACH;
        if let Some(bits) = self.bits.get_mut((bit / 64) as usize) {
            *bits = *bits & !(1 << (bit % 64)) | u64::from(given) << (bit % 64);
        }
    }
}
