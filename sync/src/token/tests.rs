use super::*;

#[test]
fn a_token_reads_back() {
    let token = SyncToken { pos: StreamPos(77), to_device: StreamPos(70), epoch: 0xab12, typing: 3, presence: 0 };
    assert_eq!(token.encode(), "s2_77_70_ab12_3_0");
    assert_eq!(SyncToken::parse(&token.encode()).unwrap(), token);
}

#[test]
fn only_what_would_have_been_written_is_read() {
    for text in [
        "",
        "s2_",
        "s1_1_1_1_1_1",
        "s2_1_1_1_1",
        "s2_1_1_1_1_1_1",
        "s2_01_1_1_1_1",
        "s2_+1_1_1_1_1",
        "s2_1_1_AB_1_1",
        "s2_1_2_1_1_1",
        " s2_1_1_1_1_1",
        "s2_1_1_1_1_1 ",
        "s2_-1_1_1_1_1",
        "s2_1_1_0x1_1_1",
        "s2_18446744073709551616_1_1_1_1",
    ] {
        assert!(SyncToken::parse(text).is_err(), "{text:?} was read");
    }
}

#[test]
fn tokens_of_both_syncs_tell_a_position() {
    assert_eq!(SyncToken::parse_position("s2_77_70_ab12_3_0").unwrap(), StreamPos(77));
    assert_eq!(SyncToken::parse_position("l1_5_3_s2_78_70_ab12_3_0").unwrap(), StreamPos(78));
    assert!(SyncToken::parse_position("c1_5").is_err());
}
