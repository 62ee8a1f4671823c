//! Where a search goes on.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use rooms::{RoomNid, RoomSeq, UserNid};

use crate::error::SearchError;

/// In which order results come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The best first.
    #[default]
    Rank,
    /// The newest first.
    Recent,
}

/// Results that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Of one room.
    Room(RoomNid),
    /// Of one sender.
    Sender(UserNid),
}

/// Where an indexed event stands among the results; what is greater comes first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// How well it fits; 0 where that does not order.
    pub weight: f32,
    /// When it was sent, as its sender says.
    pub at: i64,
    pub room: RoomNid,
    pub seq: RoomSeq,
}

impl Ord for Place {
    fn cmp(&self, other: &Place) -> Ordering {
        let rest = |place: &Place| (place.at, place.room, place.seq);
        self.weight.total_cmp(&other.weight).then_with(|| rest(self).cmp(&rest(other)))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Place) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Place) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Place {}

/// A pagination token: after which result the next page begins, in which group, and how many results there were when
/// the search began. As text it is opaque to clients, and versioned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Token {
    pub(crate) order: Order,
    pub(crate) group: Option<Group>,
    pub(crate) after: Place,
    pub(crate) count: u64,
}

impl Token {
    /// The token of the same place within a group.
    #[must_use]
    pub fn within(self, group: Group) -> Token {
        Token { group: Some(group), ..self }
    }

    /// The group that it stays in.
    #[must_use]
    pub fn group(self) -> Option<Group> {
        self.group
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = match self.order {
            Order::Rank => 'k',
            Order::Recent => 't',
        };
        let (kind, group) = match self.group {
            None => ('a', 0),
            Some(Group::Room(room)) => ('r', room.0),
            Some(Group::Sender(sender)) => ('s', sender.0),
        };
        let Place { weight, at, room, seq } = self.after;
        write!(f, "q1_{order}{kind}_{group}_{}_{at}_{}_{}_{}", weight.to_bits(), room.0, seq.0, self.count)
    }
}

impl FromStr for Token {
    type Err = SearchError;

    fn from_str(text: &str) -> Result<Token, SearchError> {
        // One text a token: no leading zeros or signs.
        parse(text).filter(|token| token.to_string() == text).ok_or(SearchError::BadToken)
    }
}

fn parse(text: &str) -> Option<Token> {
    let mut parts = text.strip_prefix("q1_")?.split('_');
    let kinds = parts.next()?;
    let group: u64 = parts.next()?.parse().ok()?;
    let weight = f32::from_bits(parts.next()?.parse().ok()?);
    let at = parts.next()?.parse().ok()?;
    let room = RoomNid(parts.next()?.parse().ok()?);
    let seq = RoomSeq(parts.next()?.parse().ok()?);
    let count = parts.next()?.parse().ok()?;
    let order = match kinds.get(..1)? {
        "k" => Order::Rank,
        "t" => Order::Recent,
        _ => return None,
    };
    let group = match kinds.get(1..)? {
        "a" => None,
        "r" => Some(Group::Room(RoomNid(group))),
        "s" => Some(Group::Sender(UserNid(group))),
        _ => return None,
    };
    let is_end = parts.next().is_none();
    is_end.then_some(Token { order, group, after: Place { weight, at, room, seq }, count })
}

#[cfg(test)]
mod tests;
