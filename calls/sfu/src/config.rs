//! The section `[sfu]` of the configuration.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use runtime::config::{RateLimit, Span};

runtime::config_section! {
    /// The media server of group calls: it forwards the sound and pictures of a call to all who are in it.
    pub struct SfuConfig {
        /// The UDP port on which all media of all calls arrive. Open it in the firewall.
        pub udp_port: u16 = 7882;
        /// The TCP port for clients whose network lets no UDP through; 0 for none.
        pub tcp_port: u16 = 7881;
        /// The addresses to listen on.
        pub listen: Vec<IpAddr> = vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        /// The addresses under which clients reach this machine. Needed behind NAT; empty means the addresses of
        /// the machine itself.
        pub public_addresses: Vec<IpAddr> = Vec::new();
        /// How many threads the media of all calls have; a call stays on one. 0 is one for each processor core but one.
        pub threads: u32 = 0;
        /// How many calls there can be at a time.
        pub max_rooms: u32 = 1000;
        /// How many participants all calls together can have.
        pub max_participants: u32 = 2000;
        /// How many participants one call can have.
        pub max_room_participants: u32 = 100;
        /// How many tracks (microphone, camera, screen) one participant can publish.
        pub max_tracks: u32 = 8;
        /// How many kbit/s one participant can publish.
        pub max_publish_kbits: u32 = 8000;
        /// How often one identity may join.
        pub joins: RateLimit = RateLimit::new(0.5, 20);
        /// How many signalling messages one participant may send.
        pub messages: RateLimit = RateLimit::new(50.0, 300);
        /// How often one participant may change what is sent and received: each change is negotiated anew, which costs
        /// more than any other message.
        pub negotiations: RateLimit = RateLimit::new(10.0, 100);
        /// How long an empty call that nobody has joined yet is kept.
        pub empty_timeout: Span = Span::seconds(300);
        /// How long a call is kept after the last participant has left.
        pub departure_timeout: Span = Span::seconds(20);
        /// How long a participant whose signalling connection broke may come back to the same session.
        pub resume_window: Span = Span::seconds(25);
        /// After how long without any media traffic a participant is taken to be gone.
        pub media_timeout: Span = Span::seconds(12);
    }
}

/// More threads are not started.
const MAX_THREADS: usize = 256;

impl SfuConfig {
    /// How many media threads to start.
    pub(crate) fn media_threads(&self) -> usize {
        let threads = match usize::try_from(self.threads).unwrap_or(MAX_THREADS) {
            0 => std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1)),
            threads => threads,
        };
        threads.clamp(1, MAX_THREADS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_a_media_thread_and_never_too_many() {
        let threads = |threads| SfuConfig { threads, ..SfuConfig::default() }.media_threads();
        assert!((1..=MAX_THREADS).contains(&threads(0)));
        assert_eq!(threads(3), 3);
        assert_eq!(threads(u32::MAX), MAX_THREADS);
    }
}
