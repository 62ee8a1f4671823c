//! Settings of calls.

use runtime::config::{ByteSize, Span};

runtime::config_section! {
    /// Group calls over the media server inside Conduit (MatrixRTC: Element Call, Element X). See docs/calls.md for the
    /// ports that have to be open.
    pub struct CallsConfig {
        /// Whether clients are offered calls. They are only where clients of all servers can reach this one: with
        /// `client.public_baseurl`, or the next key.
        pub enabled: bool = true;
        /// The address under which clients, also those of other servers, reach `/_rtc` on this server; instead of
        /// `client.public_baseurl`.
        pub public_url: Option<String> = None, example("\"https://matrix.example.org\"");
        /// A server (STUN) that tells this machine its public address where it is behind NAT, asked once at each start.
        /// What is configured in `sfu.public_addresses` and `turn.public_addresses` counts more. If it answers over IPv4
        /// only, clients are told no IPv6 address. Nobody is asked by default.
        pub stun_server: Option<String> = None, example("\"stun.example.org:3478\"");
        /// How long a participant may wait with what it was given to join a call, or to come back to it.
        pub token_lifetime: Span = Span::seconds(3600);
        /// Whether clients are also told the address of the media server itself (`url`, the newest form of MSC4195).
        /// Clients that know it then go by names that those with older clients in the same call may not expect.
        pub advertise_url: bool = false;
        /// How long it is kept who was in which call, and how well it went.
        pub history: Span = Span::seconds(30 * 24 * 3600);
        /// How many participations, and how many calls that rang, are kept of that at most.
        pub history_entries: usize = 100_000;
        /// How long the TURN credentials of `/voip/turnServer` are good for.
        pub turn_lifetime: Span = Span::seconds(24 * 3600);
    }
    sections { recording: RecordingConfig }
}

runtime::config_section! {
    /// Recording of calls that are not encrypted end to end. All in the room see that, and get the file at the end.
    pub struct RecordingConfig {
        /// Whether calls may be recorded, by those with the power to send `io.conduit.call.recording` into the state of the
        /// room.
        pub enabled: bool = false;
        /// A recording ends after so many minutes.
        pub max_minutes: u64 = 120;
        /// A recording ends when its file has about this length. The greatest upload of users does not limit it.
        pub max_bytes: ByteSize = ByteSize::mib(500);
        /// How many calls are recorded at a time.
        pub max_at_once: usize = 2;
    }
}
