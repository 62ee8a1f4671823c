//! With whom a participant shares what they publish.

use livekit_protocol as proto;

use super::{ParticipantId, Room};

/// More entries are ignored.
const MAX_ENTRIES: usize = 500;

/// Who may receive a participant's tracks.
#[derive(Clone, Debug, Default)]
pub enum Sharing {
    #[default]
    Everybody,
    Only(Vec<proto::TrackPermission>),
}

impl Sharing {
    pub fn read(permission: proto::SubscriptionPermission) -> Sharing {
        if permission.all_participants {
            return Sharing::Everybody;
        }
        let mut entries = permission.track_permissions;
        entries.truncate(MAX_ENTRIES);
        Sharing::Only(entries)
    }

    /// Whether the participant may receive the track.
    pub fn allows(&self, sid: &str, identity: &str, track_sid: &str) -> bool {
        let Sharing::Only(entries) = self else { return true };
        entries.iter().any(|entry| {
            let names = (!entry.participant_sid.is_empty() && entry.participant_sid == sid)
                || (!entry.participant_identity.is_empty() && entry.participant_identity == identity);
            names && (entry.all_tracks || entry.track_sids.iter().any(|track| track == track_sid))
        })
    }
}

impl Room {
    /// A participant says who may receive their tracks.
    pub(super) fn set_sharing(&mut self, publisher: ParticipantId, sharing: Sharing) {
        let Some(participant) = self.participants.get_mut(publisher) else { return };
        participant.sharing = sharing;
        let tracks = participant.published.clone();
        let others: Vec<ParticipantId> = self.participants.iter().map(|(id, _)| id).collect();
        for track_id in tracks {
            for other in &others {
                if self.may_receive(*other, track_id) {
                    self.auto_subscribe(*other, track_id);
                } else {
                    self.unsubscribe(*other, track_id);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_named_receive() {
        let permission = |all_tracks, track_sids: &[&str]| proto::TrackPermission {
            participant_identity: "bob".to_owned(),
            all_tracks,
            track_sids: track_sids.iter().map(ToString::to_string).collect(),
            ..Default::default()
        };
        let only = |entry| {
            Sharing::read(proto::SubscriptionPermission { all_participants: false, track_permissions: vec![entry] })
        };
        assert!(Sharing::default().allows("PA_x", "carol", "TR_1"));
        assert!(only(permission(true, &[])).allows("PA_x", "bob", "TR_1"));
        assert!(only(permission(false, &["TR_1"])).allows("PA_x", "bob", "TR_1"));
        assert!(!only(permission(false, &["TR_1"])).allows("PA_x", "bob", "TR_2"));
        assert!(!only(permission(true, &[])).allows("PA_x", "carol", "TR_1"));
        assert!(!only(permission(true, &[])).allows("", "", "TR_1"));
    }
}
