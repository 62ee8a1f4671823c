use super::*;

#[test]
fn tokens_are_read_as_they_were_written_and_no_other_way() {
    let after = Place { weight: 3.25, at: -5, room: RoomNid(7), seq: RoomSeq(-9) };
    let plain = Token { order: Order::Recent, group: None, after, count: 12 };
    for token in [plain, plain.within(Group::Room(RoomNid(3))), plain.within(Group::Sender(UserNid(4)))] {
        let text = token.to_string();
        assert_eq!(text.parse::<Token>().unwrap(), token);
        for wrong in [format!("{text}_"), format!("{text}_1"), text.replace("q1", "q2"), text.replace("_12", "_012")] {
            assert!(wrong.parse::<Token>().is_err(), "{wrong}");
        }
    }
    for wrong in ["", "q1_", "q1_ka", "c2_1_1", "q1_xa_0_0_0_0_0_0", "q1_äa_0_0_0_0_0_0"] {
        assert!(wrong.parse::<Token>().is_err(), "{wrong}");
    }
}

#[test]
fn places_are_ordered_by_weight_then_time() {
    let place = |weight, at, seq| Place { weight, at, room: RoomNid(1), seq: RoomSeq(seq) };
    assert!(place(2.0, 1, 1) > place(1.0, 9, 9));
    assert!(place(1.0, 2, 1) > place(1.0, 1, 9));
    assert!(place(1.0, 1, 2) > place(1.0, 1, 1));
    assert_eq!(place(1.0, 1, 1), place(1.0, 1, 1));
}
