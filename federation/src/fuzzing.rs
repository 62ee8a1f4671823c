//! What the fuzz targets call of this crate: thin ways to the functions that read what other servers send, with plain
//! types. Compiled with the feature `fuzzing` only; nothing else may use it. A panic here is how a target reports a finding.

use std::io::{self, Read};
use std::net::IpAddr;

use http::{HeaderMap, Response, Uri};
use outbound::{Host, SrvRecord, is_public};
use serde_json::{Map, Value};
use spec::ids::ServerName;

use crate::discovery::well_known::{self, Answer, Remembered};
use crate::discovery::{Question, Walk};
use crate::keys::KeyDocument;
use crate::remote_media::{Multipart, Piece, find_file_name};
use crate::transport::redirect_target;

/// The events and EDUs of a transaction, if it is within its bounds.
#[must_use]
pub fn read_transaction(
    origin: &ServerName,
    txn_id: &str,
    body: Map<String, Value>,
) -> Option<(Vec<Map<String, Value>>, Vec<Map<String, Value>>)> {
    let transaction = crate::inbound::read_transaction(origin, txn_id, body).ok()?;
    Some((transaction.pdus, transaction.edus))
}

/// What a `.well-known` document delegates to.
#[must_use]
pub fn read_well_known(body: &[u8]) -> Option<ServerName> {
    well_known::read_document(body)
}

/// For how long, in milliseconds, a delegation holds that came with these headers, and for how long one that came so
/// and then could not be asked for again.
#[must_use]
pub fn delegation_lasts_ms(to: &ServerName, headers: &HeaderMap, now_ms: u64, later_ms: u64) -> (u64, u64) {
    let max_age_ms = well_known::read_max_age_ms(headers, now_ms);
    let known = Remembered::after(Answer::Delegated { to: to.clone(), max_age_ms }, None, now_ms);
    let failed = Remembered::after(Answer::Failed, Some(&known), later_ms);
    (known.fresh_until_ms.saturating_sub(now_ms), failed.fresh_until_ms.saturating_sub(later_ms))
}

/// Where a redirect leads.
#[must_use]
pub fn follow_redirect(from: &Uri, location: &[u8]) -> Option<Uri> {
    let response = Response::builder().header("location", location).body(()).ok()?;
    redirect_target(from, &response)
}

/// Walks from a server name to what is connected to: hosts or addresses, with their ports. Of SRV records `(priority,
/// weight, port, target)` are given for the first of the two names, or only for the second. `None` if the name leads
/// nowhere.
#[must_use]
pub fn find_targets(
    name: &ServerName,
    delegated: Option<&ServerName>,
    records: &[(u16, u16, u16, String)],
    on_first: bool,
    mut draw: impl FnMut(u64) -> u64,
) -> Option<Vec<(Result<IpAddr, String>, u16)>> {
    let mut walk = Walk::start(name).ok()?;
    // The longest way: the document, two names with SRV records, the end.
    for _ in 0..4 {
        walk = match walk.question() {
            Question::WellKnown(_) => walk.tell_well_known(delegated).ok()?,
            Question::Srv(service) if service.starts_with("_matrix-fed.") != on_first => {
                walk.tell_srv(Vec::new(), &mut draw).ok()?
            }
            Question::Srv(_) => {
                let read = |(priority, weight, port, target): &(u16, u16, u16, String)| SrvRecord {
                    priority: *priority,
                    weight: *weight,
                    port: *port,
                    target: target.clone(),
                };
                walk.tell_srv(records.iter().map(read).collect(), &mut draw).ok()?
            }
            Question::Done(route) => {
                let targets = route.targets.iter().map(|target| match &target.host {
                    Host::Address(address) => (Ok(*address), target.port),
                    Host::Name(name) => (Err(name.clone()), target.port),
                });
                return Some(targets.collect());
            }
        };
    }
    panic!("{name} leads to no end");
}

/// Whether an address may be connected to.
#[must_use]
pub fn may_connect(address: IpAddr) -> bool {
    is_public(address)
}

/// A part of a multipart body: its content type, the file name of its disposition, its location, its bytes, and
/// whether all of it was there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// Of `Content-Disposition`.
    pub file_name: Option<String>,
    /// `Location`.
    pub location: Option<String>,
    /// The body.
    pub data: Vec<u8>,
    /// Whether its end was seen.
    pub is_whole: bool,
}

/// The parts of a body that arrives in the given pieces, and whether the closing boundary came. `None` if the reader
/// refuses it.
#[must_use]
pub fn read_multipart<'a>(content_type: &str, pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<(Vec<Part>, bool)> {
    let mut reader = Multipart::of_content_type(content_type).ok()?;
    let (mut parts, mut is_complete) = (Vec::<Part>::new(), false);
    for bytes in pieces {
        reader.feed(bytes);
        while let Some(piece) = reader.next_piece().ok()? {
            assert!(!is_complete, "something follows the end");
            match piece {
                Piece::Head(head) => parts.push(Part {
                    content_type: head.content_type,
                    file_name: head.content_disposition.as_deref().and_then(find_file_name),
                    location: head.location,
                    ..Part::default()
                }),
                Piece::Data(data) => {
                    assert!(!data.is_empty(), "a piece without bytes");
                    last_open(&mut parts).data.extend_from_slice(&data);
                }
                Piece::EndOfPart => last_open(&mut parts).is_whole = true,
                Piece::End => is_complete = true,
            }
        }
    }
    Some((parts, is_complete))
}

fn last_open(parts: &mut [Part]) -> &mut Part {
    parts.last_mut().filter(|part| !part.is_whole).unwrap_or_else(|| panic!("bytes outside of a part"))
}

/// The answer of `send_join` as it is read from pieces of at most `step` bytes: the events (state or not, JSON), the
/// join, whether members are left out. `None` if it is refused.
#[must_use]
pub fn read_join_answer(body: &[u8], step: usize) -> Option<(Vec<(bool, String)>, Option<String>, bool)> {
    let mut events = Vec::new();
    let rest = crate::remote::read_answer(crate::remote::Kind::Join, Steps { rest: body, step }, &mut |list, event| {
        events.push((format!("{list:?}") == "State", event.get().to_owned()));
        Ok(())
    });
    let rest = rest.ok()?;
    Some((events, rest.event.map(|event| event.get().to_owned()), rest.members_omitted))
}

struct Steps<'a> {
    rest: &'a [u8],
    step: usize,
}

impl Read for Steps<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = out.len().min(self.step.max(1));
        self.rest.read(out.get_mut(..length).unwrap_or_default())
    }
}

/// The server of a key document, the ids of its keys with the time when they expired, and what is kept of it. `None` if
/// it is not believed.
#[must_use]
pub fn read_key_document(object: Map<String, Value>) -> Option<(ServerName, Vec<(String, Option<u64>)>, Vec<u8>)> {
    let document = KeyDocument::read(object).ok()?;
    let keys = document.keys.iter().map(|key| (key.key_id.clone(), key.expired_ts)).collect();
    let kept = document.signed_by_itself();
    Some((document.server, keys, kept))
}
