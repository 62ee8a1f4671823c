//! The answers to `send_join` and to `/state`, read while they arrive: a large room's state is 100 MiB and more, and never
//! stands in memory as a whole.
//!
//! The body comes in on the async side and is read by a JSON parser on a thread of its own, which hands on one event
//! at a time. The channel between them is short: the other server sends no faster than its events are looked at.

use std::cell::Cell;
use std::fmt;
use std::io::{self, Read};
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::BodyExt;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use spec::ids::ServerName;
use spec::pdu::MAX_PDU_BYTES;
use tokio::sync::mpsc;

use crate::error::RemoteError;
use crate::transport::AnswerBody;

/// The most bytes of one event as it is sent: `unsigned` and blanks come on top of the event itself.
pub(crate) const MAX_ELEMENT: usize = 2 * MAX_PDU_BYTES;
/// The most bytes of a property that is skipped, or of the list of servers.
const MAX_SKIPPED: usize = 16 * 1024 * 1024;
/// The most servers in a room that are remembered; more in the answer are not read.
pub(crate) const MAX_SERVERS: usize = 20_000;
/// How many pieces of the body may wait for the parser.
const PIECES: usize = 8;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `send_join`: the state is under `state`.
    Join,
    /// `/state`: it is under `pdus`.
    State,
}

impl Kind {
    fn state_key(self) -> &'static str {
        match self {
            Kind::Join => "state",
            Kind::State => "pdus",
        }
    }
}

/// The list in which an event came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum List {
    /// The state before the join.
    State,
    /// Events that authorise those of the state.
    AuthChain,
}

/// What the answer holds besides the two lists.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    /// The join, signed by the resident server.
    pub event: Option<Box<RawValue>>,
    /// Member events were left out.
    pub members_omitted: bool,
    /// The servers that were in the room before, if the answer names any; at most [`MAX_SERVERS`].
    pub servers_in_room: Vec<ServerName>,
}

/// How much is read at once.
const READ_AHEAD: usize = 16 * 1024;

/// Reads an answer; that of `send_join` in version 2 (an object) or in version 1 (the object in a list, after a status).
/// `take` is given each event as it arrives; what it refuses ends the reading.
///
/// # Errors
/// What is wrong with the answer.
pub(crate) fn read_answer(
    kind: Kind,
    reader: impl Read,
    take: &mut dyn FnMut(List, &RawValue) -> Result<(), String>,
) -> Result<Rest, String> {
    let left = Rc::new(Cell::new(MAX_ELEMENT));
    // The parser takes single bytes.
    let metered = Metered { inner: io::BufReader::with_capacity(READ_AHEAD, reader), left: left.clone() };
    let mut parser = serde_json::Deserializer::from_reader(metered);
    let mut rest = Rest::default();
    let mut seen = Seen::default();
    let may_be_list = kind == Kind::Join;
    let top = Top { kind, take, left: &left, rest: &mut rest, seen: &mut seen, may_be_list };
    top.deserialize(&mut parser).map_err(|error| error.to_string())?;
    left.set(MAX_ELEMENT);
    parser.end().map_err(|error| error.to_string())?;
    if !seen.state || !seen.auth_chain {
        return Err(format!("{} or auth_chain is missing", kind.state_key()));
    }
    Ok(rest)
}

/// Passes on at most `left` bytes. The parser's caller gives it more as long as what it reads is of bounded size: so
/// the parser never collects more of one value.
struct Metered<R> {
    inner: R,
    left: Rc<Cell<usize>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 && !out.is_empty() {
            return Err(io::Error::other("a value is too large"));
        }
        let most = out.len().min(left);
        let read = self.inner.read(out.get_mut(..most).unwrap_or_default())?;
        self.left.set(left.saturating_sub(read));
        Ok(read)
    }
}

/// The lists that were read.
#[derive(Default)]
struct Seen {
    state: bool,
    auth_chain: bool,
}

struct Top<'a> {
    kind: Kind,
    take: &'a mut dyn FnMut(List, &RawValue) -> Result<(), String>,
    left: &'a Cell<usize>,
    rest: &'a mut Rest,
    seen: &'a mut Seen,
    may_be_list: bool,
}

impl<'de> DeserializeSeed<'de> for Top<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<(), D::Error> {
        parser.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an answer with a state")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if !self.may_be_list {
            return Err(A::Error::custom("a list in a list"));
        }
        let left = self.left;
        list.next_element::<IgnoredAny>()?.ok_or_else(|| A::Error::custom("an empty list"))?;
        let inner = Top { may_be_list: false, ..self };
        list.next_element_seed(inner)?.ok_or_else(|| A::Error::custom("a list of one"))?;
        left.set(MAX_ELEMENT);
        match list.next_element::<IgnoredAny>()? {
            Some(_) => Err(A::Error::custom("a list of more than two")),
            None => Ok(()),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Top { kind, take, left, rest, seen, .. } = self;
        loop {
            left.set(MAX_ELEMENT);
            let Some(key) = map.next_key::<String>()? else { return Ok(()) };
            left.set(MAX_ELEMENT);
            match key.as_str() {
                key if key == kind.state_key() => {
                    claim::<A::Error>(&mut seen.state, kind.state_key())?;
                    map.next_value_seed(Elements { list: List::State, take, left })?;
                }
                "auth_chain" => {
                    claim::<A::Error>(&mut seen.auth_chain, "auth_chain")?;
                    map.next_value_seed(Elements { list: List::AuthChain, take, left })?;
                }
                "event" => rest.event = map.next_value()?,
                "members_omitted" => rest.members_omitted = map.next_value::<bool>()?,
                "servers_in_room" => {
                    left.set(MAX_SKIPPED);
                    rest.servers_in_room = map.next_value_seed(Servers)?;
                }
                _ => {
                    left.set(MAX_SKIPPED);
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
    }
}

fn claim<E: serde::de::Error>(seen: &mut bool, name: &'static str) -> Result<(), E> {
    if std::mem::replace(seen, true) { Err(E::duplicate_field(name)) } else { Ok(()) }
}

/// A list of names of servers. What is no name is left out.
struct Servers;

impl<'de> DeserializeSeed<'de> for Servers {
    type Value = Vec<ServerName>;

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<Vec<ServerName>, D::Error> {
        parser.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Servers {
    type Value = Vec<ServerName>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of servers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<ServerName>, A::Error> {
        let mut servers = Vec::new();
        while servers.len() < MAX_SERVERS
            && let Some(name) = list.next_element::<String>()?
        {
            servers.extend(ServerName::parse(name).ok());
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(servers)
    }
}

/// A list of events.
struct Elements<'a> {
    list: List,
    take: &'a mut dyn FnMut(List, &RawValue) -> Result<(), String>,
    left: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Elements<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<(), D::Error> {
        parser.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        loop {
            self.left.set(MAX_ELEMENT);
            let Some(event) = list.next_element::<Box<RawValue>>()? else { return Ok(()) };
            (self.take)(self.list, &event).map_err(A::Error::custom)?;
        }
    }
}

/// The parser's end of the channel.
pub(crate) struct Pieces {
    receiver: mpsc::Receiver<Result<Bytes, io::Error>>,
    current: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.current = piece?,
                None => return Ok(0),
            }
        }
        let length = out.len().min(self.current.len());
        let piece = self.current.split_to(length);
        match out.get_mut(..length) {
            Some(part) => part.copy_from_slice(&piece),
            None => return Ok(0),
        }
        Ok(length)
    }
}

/// Runs `parse` over a body while it arrives. If dropped, the parser sees a broken body and ends.
///
/// # Errors
/// What `parse` says, or that the body broke off, was too large or came too slowly.
pub(crate) async fn parse_body<T: Send + 'static>(
    server: &ServerName,
    mut body: AnswerBody,
    parse: impl FnOnce(Pieces) -> Result<T, String> + Send + 'static,
) -> Result<T, RemoteError> {
    let (sender, receiver) = mpsc::channel(PIECES);
    let parsing = tokio::task::spawn_blocking(move || parse(Pieces { receiver, current: Bytes::new() }));
    let mut broken = None;
    while let Some(frame) = body.frame().await {
        let piece = match frame {
            Ok(frame) => match frame.into_data() {
                Ok(data) => Ok(data),
                Err(_) => continue,
            },
            Err(error) => {
                broken = Some(error.to_string());
                Err(io::Error::other("the body broke off"))
            }
        };
        let ends = piece.is_err();
        // The parser ends early if it does not like what it reads.
        if sender.send(piece).await.is_err() || ends {
            break;
        }
    }
    drop(sender);
    let malformed = |reason: String| RemoteError::Malformed { server: server.clone(), reason };
    match (parsing.await, broken) {
        (Ok(Ok(value)), None) => Ok(value),
        (_, Some(reason)) => Err(RemoteError::Unreachable { server: server.clone(), reason }),
        (Ok(Err(reason)), None) => Err(malformed(reason)),
        (Err(_), None) => Err(malformed("the answer could not be read".to_owned())),
    }
}

#[cfg(test)]
mod tests;
