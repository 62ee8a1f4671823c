use runtime::{Metrics, Random};

use super::*;
use crate::config::SfuConfig;
use crate::room::{Fixed, Outbox};
use crate::shard::MediaMetrics;

fn offer(directions: &[&str]) -> Vec<Section> {
    let line = |(mid, direction): (usize, &&str)| {
        format!("m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:{mid}\r\na={direction}\r\n")
    };
    let lines: String = directions.iter().enumerate().map(line).collect();
    sdp::sections(&format!("v=0\r\n{lines}")).unwrap()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the engine counts in instants, of which one has to be taken")]
fn nothing_is_sent_on_a_line_that_is_not_offered_any_more() {
    let fixed = Fixed {
        config: SfuConfig::default(),
        random: Random::system(),
        certificate: str0m::crypto::from_feature_flags().dtls_provider.generate_certificate().unwrap(),
        candidates: Vec::new(),
        metrics: MediaMetrics::new(&Metrics::new()),
    };
    let mut out = Outbox::default();
    let mut env = Env { fixed: &fixed, now: std::time::Instant::now(), now_ms: 0, out: &mut out };
    let mut peer = Peer::new(PeerAt { participant: 0, side: Side::Main }, &mut env);
    let offered = |peer: &Peer| peer.lines.iter().map(|line| line.offered).collect::<Vec<_>>();
    peer.add_lines(&offer(&["sendonly", "recvonly", "recvonly"]));
    assert_eq!(offered(&peer), [true, true], "the first is the client's own");
    // A client whose lines follow what we answered: parked is parked.
    peer.add_lines(&offer(&["sendonly", "inactive", "recvonly", "recvonly"]));
    assert_eq!(offered(&peer), [false, true, true]);
    // A browser offers it again.
    peer.add_lines(&offer(&["sendonly", "recvonly", "recvonly", "recvonly"]));
    assert_eq!(offered(&peer), [true, true, true]);
}
