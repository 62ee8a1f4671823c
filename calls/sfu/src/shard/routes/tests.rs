use super::*;

fn check(attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut datagram = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    datagram.extend([7; 12]);
    for (kind, value) in attributes {
        datagram.extend(kind.to_be_bytes());
        datagram.extend((value.len() as u16).to_be_bytes());
        datagram.extend(*value);
        datagram.resize(datagram.len().next_multiple_of(4), 0);
    }
    datagram
}

#[test]
fn the_name_is_found_behind_other_attributes() {
    let datagram = check(&[(0x8022, b"abcde"), (0x0006, b"ours:theirs"), (0x0024, &[0, 0, 0, 1])]);
    assert!(is_stun(&datagram));
    assert_eq!(local_name(&datagram), Some("ours"));
}

#[test]
fn truncated_checks_have_no_name() {
    let datagram = check(&[(0x8022, b"abcde"), (0x0006, b"ours:theirs")]);
    for len in 0..datagram.len() - 1 {
        assert_eq!(local_name(&datagram[..len]), None, "{len}");
    }
    assert_eq!(local_name(&check(&[(0x0006, b"\xff\xfe")])), None);
    assert_eq!(local_name(&check(&[])), None);
    assert!(!is_stun(&[0x80; 30]));
    assert!(!is_stun(&[]));
}

#[test]
fn an_address_goes_with_its_room_only() {
    let route = |room| Route { room, at: PeerAt { participant: 0, side: crate::room::Side::Main } };
    let address: SocketAddr = "192.0.2.1:5000".parse().unwrap();
    let mut routes = Routes::new(Arc::default(), 0);
    routes.add_address(address, false, route(1));
    routes.remove_address(address, 2);
    assert_eq!(routes.by_address(address, false), Some(route(1)));
    assert_eq!(routes.by_address(address, true), None);
    routes.remove_address(address, 1);
    assert_eq!(routes.by_address(address, false), None);
}
