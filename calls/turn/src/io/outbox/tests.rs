use super::*;

const SOCKET: Source = Source::Listener(0);

fn to(port: u16) -> (Source, SocketAddr, Option<IpAddr>) {
    (SOCKET, SocketAddr::from(([192, 0, 2, 1], port)), None)
}

/// Port, segment and count of each run.
fn runs(outbox: &mut Outbox) -> Vec<(u16, usize, usize)> {
    outbox.drain().map(|run| (run.to.port(), run.segment, run.count)).collect()
}

#[test]
fn one_flow_leaves_together_as_long_as_sizes_allow() {
    let mut outbox = Outbox::new();
    for len in [100, 100, 50, 100, 200] {
        outbox.add(to(1), [&vec![1; len - 4], &[0; 4], &[]], 64);
    }
    assert_eq!(runs(&mut outbox), [(1, 100, 3), (1, 100, 1), (1, 200, 1)]);
    assert_eq!(runs(&mut outbox), [], "a run leaves once");
}

#[test]
fn flows_between_each_other_keep_their_order() {
    let mut outbox = Outbox::new();
    for (port, byte) in [(1, 1), (2, 2), (1, 3), (2, 4), (1, 5)] {
        outbox.add(to(port), [&[byte], &[], &[]], 64);
    }
    let sent: Vec<_> = outbox.drain().map(|run| (run.to.port(), run.bytes.clone())).collect();
    assert_eq!(sent, [(1, vec![1, 3, 5]), (2, vec![2, 4])]);
}

#[test]
fn sockets_and_sizes_set_bounds() {
    let mut outbox = Outbox::new();
    for _ in 0..3 {
        outbox.add(to(1), [&[0; 100], &[], &[]], 2);
    }
    assert_eq!(runs(&mut outbox), [(1, 100, 2), (1, 100, 1)], "as many as the socket takes");
    for _ in 0..2 {
        outbox.add(to(1), [&[0; 1400], &[], &[]], 64);
        outbox.add(to(2), [&[], &[], &[]], 64);
    }
    assert_eq!(runs(&mut outbox), [(1, 1400, 1), (2, 0, 1), (1, 1400, 1), (2, 0, 1)], "long and empty ones alone");
    for _ in 0..200 {
        outbox.add(to(1), [&[0; 1000], &[], &[]], 1000);
    }
    assert_eq!(runs(&mut outbox), [(1, 1000, 60), (1, 1000, 60), (1, 1000, 60), (1, 1000, 20)]);
}
