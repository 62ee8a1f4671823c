//! Which servers an event goes to.

use std::collections::BTreeMap;

use rooms::{EventFlags, RoomSeq, ServerStay};
use spec::ids::ServerName;

#[cfg(test)]
mod tests;

/// What decides whether this server sends an event on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent<'a> {
    /// Its number in the room.
    pub seq: RoomSeq,
    /// The server of its sender.
    pub origin: &'a str,
    /// What is known of it.
    pub flags: EventFlags,
}

impl Sent<'_> {
    /// Whether it is ours to send: our users', unless another server passes it on, or taken in for its sender's server.
    /// Never one that is not part of what is read.
    pub fn is_ours(&self, us: &ServerName) -> bool {
        let is_own = self.origin == us.as_str() && !self.flags.has(EventFlags::TOLD);
        self.flags.is_visible() && (is_own || self.flags.has(EventFlags::RELAY))
    }

    /// Whether a server that is or was in the room is told of it: only of what happened while it was there, and not
    /// of what it sent itself.
    pub fn is_for(&self, us: &ServerName, server: &ServerName, stay: &ServerStay) -> bool {
        server != us
            && server.as_str() != self.origin
            && stay.since < self.seq
            && stay.until.is_none_or(|until| self.seq <= until)
            && (stay.joined > 0 || stay.until.is_some())
    }

    /// The servers in the room that are told of it.
    pub fn recipients<'s>(
        &self,
        us: &ServerName,
        stays: &'s BTreeMap<ServerName, ServerStay>,
    ) -> impl Iterator<Item = &'s ServerName> {
        stays.iter().filter(|(server, stay)| self.is_for(us, server, stay)).map(|(server, _)| server)
    }
}
