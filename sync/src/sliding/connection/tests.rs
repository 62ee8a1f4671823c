use super::*;

fn pos(connection: &Connection, number: u64) -> Pos {
    let token = SyncToken { pos: StreamPos(9), to_device: StreamPos(9), epoch: 1, typing: 0, presence: 0 };
    Pos { generation: connection.generation, number, token }
}

fn addition(room: u64) -> Addition {
    let sent =
        SentRoom { up_to: StreamPos(9), events: 1, state: Arc::default(), is_dm: false, membership: Membership::Join };
    Addition { rooms: vec![(RoomNid(room), sent)], ..Addition::default() }
}

#[test]
fn pos_reads_back_and_nothing_else_does() {
    let pos = pos(&Connection::new(5), 3);
    assert_eq!(pos.to_string(), "l1_5_3_s2_9_9_1_0_0");
    assert_eq!(Pos::parse(&pos.to_string()).unwrap(), pos);
    for text in ["", "0", "l1_5_3", "l1_05_3_s2_9_9_1_0_0", "l1_5_3_s2_9_9_1_0_0_"] {
        assert!(matches!(Pos::parse(text), Err(SyncError::UnknownPos)), "{text} was read");
    }
}

#[test]
fn an_addition_counts_once_it_is_confirmed() {
    let mut connection = Connection::new(1);
    connection.go_to(None).unwrap();
    connection.answered(addition(1));
    assert!(connection.rooms.is_empty());
    connection.go_to(Some(&pos(&connection, 1))).unwrap();
    assert!(connection.rooms.contains_key(&RoomNid(1)));
    // The client repeats its request: the first answer was lost.
    connection.answered(addition(2));
    connection.go_to(Some(&pos(&connection, 1))).unwrap();
    assert!(!connection.rooms.contains_key(&RoomNid(2)));
    connection.answered(addition(3));
    connection.go_to(Some(&pos(&connection, 3))).unwrap();
    assert!(connection.rooms.contains_key(&RoomNid(3)) && !connection.rooms.contains_key(&RoomNid(2)));
    assert!(connection.go_to(Some(&pos(&connection, 1))).is_err());
    assert!(connection.go_to(Some(&pos(&connection, 4))).is_err());
}

#[test]
fn a_device_has_a_bounded_number_of_connections() {
    let clock = Clock::fake(1000);
    let config = SyncConfig { connections_per_device: 2, ..SyncConfig::default() };
    let connections = Connections::new(&clock, &config);
    let device = DeviceNid(1);
    let mut made = Vec::new();
    for name in ["a", "b", "c"] {
        let connection = connections.begin(device, name);
        let at = pos(&connection.lock(), 0);
        made.push((name, at));
        clock.advance(std::time::Duration::from_secs(1));
    }
    let found: Vec<bool> = made.iter().map(|(name, at)| connections.find(device, name, at).is_ok()).collect();
    assert_eq!(found, [false, true, true]);
    assert!(connections.find(DeviceNid(2), "b", &made[1].1).is_err(), "another device's connection");
    connections.begin(device, "b");
    assert!(connections.find(device, "b", &made[1].1).is_err(), "a replaced connection");
}
