//! Tokens of `/sync`.

use std::fmt;
use std::str::FromStr;

use storage::StreamPos;

use crate::error::SyncError;
use crate::sliding::connection::Pos;

/// `next_batch`, and `since` of the request after it: where a client stands in everything that it is told.
///
/// As text: `s2_<position>_<to-device position>_<epoch>_<typing>_<presence>`, all decimal but the
/// epoch, which is hexadecimal, without leading zeros. Opaque to clients. Typing and presence are counted in
/// memory; the epoch tells whether that was since this start of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncToken {
    /// Everything durable up to here was told.
    pub pos: StreamPos,
    /// To-device messages were told up to here: less than `pos` while more are waiting than one answer holds.
    pub to_device: StreamPos,
    /// Which start of the server the counters belong to.
    pub epoch: u64,
    /// Changes of typing that were told.
    pub typing: u64,
    /// Changes of presence that were told.
    pub presence: u64,
}

impl fmt::Display for SyncToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SyncToken { pos, to_device, epoch, typing, presence } = self;
        write!(f, "s2_{pos}_{to_device}_{epoch:x}_{typing}_{presence}")
    }
}

impl FromStr for SyncToken {
    type Err = SyncError;

    fn from_str(text: &str) -> Result<Self, SyncError> {
        SyncToken::read(text).ok_or(SyncError::InvalidToken)
    }
}

impl SyncToken {
    /// Reads a token.
    ///
    /// # Errors
    /// [`SyncError::InvalidToken`] for anything that [`SyncToken`] would not be written as.
    pub fn parse(text: &str) -> Result<SyncToken, SyncError> {
        text.parse()
    }

    /// Where a token of either sync stands, `next_batch` or `pos`: both may be the `from` of `/messages`.
    ///
    /// # Errors
    /// [`SyncError::InvalidToken`] for anything else.
    pub fn parse_position(text: &str) -> Result<StreamPos, SyncError> {
        let sliding = || Pos::parse(text).ok().map(|pos| pos.token);
        let token = SyncToken::read(text).or_else(sliding).ok_or(SyncError::InvalidToken)?;
        Ok(token.pos)
    }

    /// The token as text.
    #[must_use]
    pub fn encode(&self) -> String {
        self.to_string()
    }

    fn read(text: &str) -> Option<SyncToken> {
        let mut parts = text.strip_prefix("s2_")?.split('_');
        let pos = StreamPos(decimal(parts.next()?)?);
        let to_device = StreamPos(decimal(parts.next()?)?);
        let epoch = canonical(parts.next()?, |text| u64::from_str_radix(text, 16).ok(), |n| format!("{n:x}"))?;
        let (typing, presence) = (decimal(parts.next()?)?, decimal(parts.next()?)?);
        let token = SyncToken { pos, to_device, epoch, typing, presence };
        (parts.next().is_none() && to_device <= pos).then_some(token)
    }

    /// The counters of typing and presence as they count for a server of this epoch: those of
    /// another start mean nothing, and everything is told again.
    pub(crate) fn counters(&self, epoch: u64) -> (u64, u64) {
        if self.epoch == epoch { (self.typing, self.presence) } else { (0, 0) }
    }
}

/// A number without sign or leading zeros.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    canonical(text, |text| text.parse().ok(), |number| number.to_string())
}

fn canonical(text: &str, read: impl Fn(&str) -> Option<u64>, write: impl Fn(u64) -> String) -> Option<u64> {
    read(text).filter(|number| write(*number) == text)
}

#[cfg(test)]
mod tests;
