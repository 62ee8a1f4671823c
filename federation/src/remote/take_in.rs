//! From a spool of received events to a room: checks and stores them in order, then enters.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use rooms::{CheckedPdu, RoomError, RoomNid, Verdict};
use spec::auth;
use spec::ids::{EventId, RoomId, ServerName};
use spec::pdu::{Pdu, ReceivedPdu};
use spec::version::RoomVersion;

use crate::Federation;
use crate::remote::failure::{Failure, blame};
use crate::remote::spool::{EventNumber, Spool};

/// The events that are checked and stored at a time.
const CHUNK: usize = 500;
/// How often progress is told.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// A join and the state before it, on their way into the store.
pub(crate) struct Arrival<'a> {
    /// The server that let us in.
    pub server: &'a ServerName,
    pub room: &'a RoomId,
    pub version: RoomVersion,
    /// Our join, with the signatures it needs.
    pub join: CheckedPdu,
    pub spool: Spool,
    /// The servers in the room, if its members were left out of the state.
    pub partial: Option<Vec<ServerName>>,
}

/// What was stored.
struct Stored {
    spool: Spool,
    /// The events that were accepted.
    accepted: HashSet<EventNumber>,
    /// Those of them that are the state.
    state: Vec<EventId>,
}

impl Federation {
    /// Stores the state of a room and enters it. If its members were left out, their state is fetched from then on.
    ///
    /// # Errors
    /// The other server's fault if the create event is missing or wrong, or if the state it gave forbids the join.
    pub(crate) async fn take_in(&self, arrival: Arrival<'_>) -> Result<(), Failure> {
        let Arrival { server, room, version, join, mut spool, partial } = arrival;
        let create = spool.find_state("m.room.create", "");
        let create = create.ok_or_else(|| Failure::malformed(server, "the state has no create event"))?;
        check_create(server, version, &read(server, version, &mut spool, create)?)?;
        let nid = self.rooms.begin_room(room, version).await?;
        self.rooms.acquit_left_over(nid).await?;
        let stored = self.store_spool(server, nid, room, version, spool, create).await?;
        let Stored { mut spool, accepted, state } = stored;
        if !accepted.contains(&create) {
            return Err(Failure::malformed(server, "the create event is not acceptable"));
        }
        check_join(server, version, join.pdu(), &mut spool, &accepted, partial.is_some())?;
        let events = state.len();
        match partial {
            None => {
                self.rooms.enter(nid, join, state).await.map_err(|error| blame(server, error))?;
                tracing::info!(room_id = room.as_str(), events, "the room was entered");
            }
            Some(servers) => {
                let named = servers.len();
                let entering = self.rooms.enter_partial(nid, join, state, server, servers);
                entering.await.map_err(|error| blame(server, error))?;
                tracing::info!(
                    room_id = room.as_str(),
                    events,
                    servers = named,
                    "the room was entered without members"
                );
                self.resync(nid);
            }
        }
        Ok(())
    }

    async fn store_spool(
        &self,
        server: &ServerName,
        nid: RoomNid,
        room: &RoomId,
        version: RoomVersion,
        mut spool: Spool,
        create: EventNumber,
    ) -> Result<Stored, Failure> {
        let order = spool.order(Some(create));
        let total = order.len();
        let begun = self.clock.monotonic();
        let mut told = begun;
        let (mut accepted, mut state) = (HashSet::new(), Vec::new());
        for (at, chunk) in order.chunks(CHUNK).enumerate() {
            let received;
            (spool, received) = self.read_spooled(spool, chunk.to_vec()).await?;
            let numbers = chunk.iter().copied();
            for (number, id) in self.store_chunk(server, nid, version, numbers.zip(received).collect()).await? {
                if spool.is_in_state(number) {
                    state.push(id);
                }
                accepted.insert(number);
            }
            let now = self.clock.monotonic();
            if now.saturating_sub(told) >= REPORT_EVERY {
                told = now;
                let (stored, elapsed) = (at * CHUNK + chunk.len(), now.saturating_sub(begun));
                tracing::info!(room_id = room.as_str(), stored, total, ?elapsed, "a room's state is being stored");
            }
        }
        let left_out = spool.left_out() + spool.len().saturating_sub(accepted.len());
        if left_out > 0 {
            tracing::debug!(room_id = room.as_str(), origin = server.as_str(), left_out, "events were left out");
        }
        Ok(Stored { spool, accepted, state })
    }

    /// Reads events of a spool back, off the async workers.
    ///
    /// # Errors
    /// If the temporary file cannot be read, or this server is shutting down.
    pub(crate) async fn read_spooled(
        &self,
        mut spool: Spool,
        numbers: Vec<EventNumber>,
    ) -> Result<(Spool, Vec<ReceivedPdu>), RoomError> {
        let reading = self.tasks.compute("reading a room's state", move || {
            let read = numbers.into_iter().map(|number| spool.read(number)).collect::<Result<Vec<_>, _>>();
            read.map(|received| (spool, received))
        });
        match reading.await {
            Ok(read) => read.map_err(|error| broken_spool(&error)),
            Err(_) => Err(RoomError::Busy),
        }
    }

    /// Checks and stores some events. Gives those that were accepted.
    async fn store_chunk(
        &self,
        server: &ServerName,
        nid: RoomNid,
        version: RoomVersion,
        events: Vec<(EventNumber, ReceivedPdu)>,
    ) -> Result<Vec<(EventNumber, EventId)>, Failure> {
        let (numbers, received): (Vec<_>, Vec<_>) = events.into_iter().unzip();
        let checked = self.keys.check_pdus_via(Some(server), version.rules(), received).await;
        let (mut ids, mut usable) = (Vec::with_capacity(checked.len()), Vec::with_capacity(checked.len()));
        for (number, (event_id, result)) in numbers.into_iter().zip(checked) {
            match result {
                Ok(pdu) => {
                    ids.push((number, event_id));
                    usable.push(pdu);
                }
                Err(error) => tracing::debug!(event_id = event_id.as_str(), %error, "an event cannot be used"),
            }
        }
        let verdicts = self.rooms.receive_outliers(nid, usable).await?;
        let mut accepted = Vec::with_capacity(ids.len());
        for ((number, event_id), verdict) in ids.into_iter().zip(verdicts) {
            match verdict {
                Ok(Verdict::Accepted | Verdict::Known | Verdict::SoftFailed(_)) => accepted.push((number, event_id)),
                Ok(Verdict::Rejected(reason)) => {
                    tracing::debug!(event_id = event_id.as_str(), reason, "an event of the state is not allowed");
                }
                Err(error) => match blame(server, error) {
                    Failure::Remote(error) => {
                        tracing::debug!(event_id = event_id.as_str(), %error, "an event of the state is left out");
                    }
                    failure @ Failure::Local(_) => return Err(failure),
                },
            }
        }
        Ok(accepted)
    }
}

fn broken_spool(error: &std::io::Error) -> RoomError {
    tracing::error!(%error, "the temporary file of a join cannot be read");
    RoomError::Inconsistent("a temporary file cannot be read")
}

/// The event as it is stored: its redacted copy if its content hash is wrong.
fn read(server: &ServerName, version: RoomVersion, spool: &mut Spool, number: EventNumber) -> Result<Pdu, Failure> {
    let received = spool.read(number).map_err(|error| broken_spool(&error))?;
    received.into_pdu(version.rules()).map_err(|error| Failure::malformed(server, error.to_string()))
}

/// The create event has to be of the version that the join was made for.
fn check_create(server: &ServerName, version: RoomVersion, create: &Pdu) -> Result<(), Failure> {
    #[derive(serde::Deserialize)]
    struct Content {
        room_version: Option<String>,
    }
    let content =
        create.content::<Content>().map_err(|_| Failure::malformed(server, "the create event is malformed"))?;
    if content.room_version.as_deref().unwrap_or("1") != version.as_str() {
        return Err(Failure::malformed(server, "the create event is of another room version"));
    }
    auth::check_auth_events(version.rules(), create, &[]).map_err(|error| Failure::malformed(server, error.to_string()))
}

/// What is accepted of the state has to allow the join, and what it cites has to be there. In a state without members
/// (`is_partial`) the join's own word counts for those it cites, until the whole state is here.
fn check_join(
    server: &ServerName,
    version: RoomVersion,
    join: &Pdu,
    spool: &mut Spool,
    accepted: &HashSet<EventNumber>,
    is_partial: bool,
) -> Result<(), Failure> {
    let rules = version.rules();
    for id in &join.auth_events {
        if !spool.find_event(id).is_some_and(|number| accepted.contains(&number)) {
            return Err(Failure::malformed(server, "an event that authorises the join is missing"));
        }
    }
    let mut wanted = auth::auth_types(rules, &join.kind, &join.sender, join.state_key.as_deref(), &join.content);
    wanted.push(("m.room.create".into(), "".into()));
    let mut state: Vec<Arc<Pdu>> = Vec::with_capacity(wanted.len());
    for (kind, key) in wanted {
        if let Some(number) = spool.find_state(&kind, &key).filter(|number| accepted.contains(number)) {
            state.push(Arc::new(read(server, version, spool, number)?));
        }
    }
    if is_partial {
        let cited: Vec<EventNumber> = join.auth_events.iter().filter_map(|id| spool.find_event(id)).collect();
        for number in cited {
            let cited = read(server, version, spool, number)?;
            let is_member = &*cited.kind == "m.room.member" && cited.state_key.is_some();
            if is_member && !state.iter().any(|pdu| pdu.kind == cited.kind && pdu.state_key == cited.state_key) {
                state.push(Arc::new(cited));
            }
        }
    }
    let lookup = |kind: &str, key: &str| {
        state.iter().find(|pdu| *pdu.kind == *kind && pdu.state_key.as_deref() == Some(key)).cloned()
    };
    auth::check_state(rules, join, &lookup)
        .map_err(|error| Failure::malformed(server, format!("the state forbids the join: {error}")))
}
