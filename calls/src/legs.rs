//! Following participants from their coming to their going, and ending the legs of those who have no place in the call
//! any more.

use rooms::UserNid;

use crate::calls::Calls;
use crate::error::CallError;
use crate::events::Notice;
use crate::grants::GrantRow;
use crate::history::LegStatistics;
use crate::seat::LegKey;
use crate::table::Leg;

impl Calls {
    /// Looks at what is told, in its order, until shutdown; then keeps of those who are in calls that they were.
    pub(crate) async fn follow(&self) {
        let shutdown = self.tasks.shutdown_token();
        while let Some(notice) = shutdown.run_until_cancelled(self.events.next()).await {
            if let Err(error) = self.look_at(notice).await {
                tracing::error!(%error, "what happened in a call was not noted");
            }
        }
        // Their leave events stay as they are: they may come back once this server does.
        for (key, leg) in self.table.legs() {
            self.table.remove(&key);
            if let Err(error) = self.keep_end(key, leg, LegStatistics::default()).await {
                tracing::warn!(%error, "it was not kept who was in a call");
            }
        }
    }

    async fn look_at(&self, notice: Notice) -> Result<(), CallError> {
        match notice {
            Notice::Joined(key) => self.note_join(key).await,
            Notice::Left(key, statistics) => self.note_end(key, statistics).await,
            Notice::Changed(users) => {
                self.end_recordings_of(&users)?;
                self.end_legs(&users)
            }
        }
    }

    /// A participant has come. Who has no place here is sent away again: the media server asks before it lets anybody
    /// in, but that was a moment ago.
    async fn note_join(&self, key: LegKey) -> Result<(), CallError> {
        let (media, _) = self.media()?;
        let Some(grant) = self.find_guest(&key)? else {
            tracing::info!(call = key.room, "a participant without a place in the call is sent away");
            media.disconnect(&key.room, &key.identity);
            return Ok(());
        };
        let (user, room) = (grant.user, grant.room);
        let replaced = self.table.insert(key.clone(), grant, self.clock.now_ms());
        // The commit that takes the place away may have come between looking and being in the table.
        self.end_legs(&[user])?;
        tracing::info!(call = key.room, room = room.0, user = user.0, "a participant joined a call");
        self.note_back(&key);
        match replaced {
            Some(leg) => self.keep_leg(key, leg, LegStatistics::default()).await,
            None => Ok(()),
        }
    }

    async fn note_end(&self, key: LegKey, statistics: LegStatistics) -> Result<(), CallError> {
        let leg = self.table.remove(&key);
        self.note_gone(&key);
        match leg {
            Some(leg) => self.keep_end(key, leg, statistics).await,
            None => Ok(()),
        }
    }

    async fn keep_end(&self, key: LegKey, leg: Leg, statistics: LegStatistics) -> Result<(), CallError> {
        let seconds = self.clock.now_ms().saturating_sub(leg.joined_ms) / 1000;
        tracing::info!(
            call = key.room,
            room = leg.grant.room.0,
            user = leg.grant.user.0,
            seconds,
            rtt_ms = statistics.rtt_ms,
            loss_up_permille = statistics.loss_up_permille,
            loss_down_permille = statistics.loss_down_permille,
            transport = statistics.transport,
            "a participant left a call"
        );
        // Its client has a newer token from the media server, and may come back with it.
        if !leg.is_revoked {
            let grant = GrantRow { expires_ms: self.new_expiry(), ..leg.grant.clone() };
            self.keep_grant(&key, &grant).await?;
        }
        self.keep_leg(key, leg, statistics).await
    }

    /// Ends the legs of these users that have lost their reason: they left the room or were removed from it, their
    /// device was logged out, their account is no more or may not send.
    fn end_legs(&self, users: &[UserNid]) -> Result<(), CallError> {
        let (media, _) = self.media()?;
        for (key, leg) in self.table.legs_of_users(users) {
            if !self.is_welcome(&leg.grant)? {
                tracing::info!(
                    call = key.room,
                    room = leg.grant.room.0,
                    user = leg.grant.user.0,
                    "a call leg is ended"
                );
                media.disconnect(&key.room, &key.identity);
            }
        }
        Ok(())
    }
}
