//! Rooms known from outside, and events known only because others cite them: the state and the auth chain of a room that
//! is being entered, or of a gap.

use spec::ids::RoomId;
use spec::version::RoomVersion;
use storage::{Batch, CommitError};

use crate::append::Append;
use crate::checked::CheckedPdu;
use crate::error::RoomError;
use crate::event::EventFlags;
use crate::head::Head;
use crate::ids::{RoomNid, SnapshotId};
use crate::keyspaces::{HEADS, ROOM_NIDS};
use crate::place::{Part, Placing};
use crate::receive::{Known, Verdict, split_commands};
use crate::rooms::Rooms;

impl Rooms {
    /// The number of a room of other servers, which from now on is known here by its id and version only. As long as the
    /// room was never entered, nothing proves its version: an invitation says what it likes, so the version that was
    /// named last counts. Cancel-safe.
    ///
    /// # Errors
    /// [`RoomError::Invalid`] if the room is known here with another version.
    pub async fn begin_room(&self, room_id: &RoomId, version: RoomVersion) -> Result<RoomNid, RoomError> {
        loop {
            if let Some(room) = self.room_nid(room_id)? {
                if self.head(room)?.version() != version {
                    self.submit_job(room, move |append| append.change_version(version)).await?;
                }
                return Ok(room);
            }
            let room = self.new_room_nid();
            let head = Head::empty(room, room_id.clone(), version);
            let id = room_id.as_str().to_owned();
            let mut batch = Batch::new();
            batch.expect_absent(&ROOM_NIDS, &id).expect_absent(&HEADS, &room);
            batch.put(&ROOM_NIDS, &id, &room).put(&HEADS, &room, &head.row);
            match self.store.commit(batch).await {
                // Somebody else was faster: look again.
                Ok(_) | Err(CommitError::Expectation { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Stores events outside of the timeline, judged by their auth events alone. The order given is kept: auth events
    /// come before what cites them. One result for each. Cancel-safe: what is submitted is carried out.
    ///
    /// # Errors
    /// For one event: [`RoomError::Missing`] with auth events to fetch first. For all: [`RoomError::Busy`], storage
    /// errors.
    pub async fn receive_outliers(
        &self,
        room: RoomNid,
        pdus: Vec<CheckedPdu>,
    ) -> Result<Vec<Result<Verdict, RoomError>>, RoomError> {
        self.intern_people(&pdus).await?;
        let mut verdicts = Vec::with_capacity(pdus.len());
        for group in split_commands(pdus, |pdu| pdu) {
            verdicts.extend(self.submit_outliers(room, group).await?);
        }
        Ok(verdicts)
    }
}

impl Append<'_> {
    /// Takes another version for a room whose create event never came.
    fn change_version(&mut self, version: RoomVersion) -> Result<(), RoomError> {
        let head = &mut self.head;
        if head.version == version {
            return Ok(());
        }
        if head.create.is_some() {
            return Err(RoomError::Invalid("the room has another version"));
        }
        head.version = version;
        head.row.version = version.as_str().into();
        self.batch.put(&HEADS, &head.room, &head.row);
        Ok(())
    }

    /// Stores outliers. One that fails leaves nothing behind, or everything is dropped for its failure.
    pub(crate) fn receive_outliers(
        &mut self,
        pdus: Vec<CheckedPdu>,
    ) -> Result<Vec<Result<Verdict, RoomError>>, RoomError> {
        let mut verdicts = Vec::with_capacity(pdus.len());
        for pdu in pdus {
            let before = self.added();
            match self.receive_outlier(&pdu) {
                Err(error) if self.added() != before => return Err(error),
                verdict => verdicts.push(verdict),
            }
        }
        Ok(verdicts)
    }

    fn receive_outlier(&mut self, pdu: &CheckedPdu) -> Result<Verdict, RoomError> {
        let pdu = pdu.pdu();
        if pdu.room_id != self.head.room_id {
            return Err(RoomError::Invalid("the event is of another room"));
        }
        if !matches!(self.find_known(pdu)?, Known::No) {
            return Ok(Verdict::Known);
        }
        let (auth_events, missing) = self.cited_auth_events(pdu)?;
        if !missing.is_empty() {
            return Err(RoomError::Missing(missing));
        }
        let (flags, verdict) = match self.judge_by_auth_events(pdu, &auth_events)? {
            Some(failure) => (EventFlags::REJECTED, Verdict::Rejected(failure.to_string())),
            None => (EventFlags::default(), Verdict::Accepted),
        };
        let flags = flags.with(EventFlags::OUTLIER);
        let sender = self.rooms.user_nid(&pdu.sender)?.ok_or(RoomError::Inconsistent("sender without a number"))?;
        let before = SnapshotId::EMPTY;
        self.place_event(
            pdu,
            Placing { part: Part::Outlier, sender, before, flags, transaction: None, promoted: None },
        )?;
        Ok(verdict)
    }
}
