use super::*;

#[test]
fn versions_round_trip_and_name_their_rules() {
    for version in RoomVersion::ALL {
        assert_eq!(version.to_string().parse(), Ok(version));
        assert_eq!(version.rules().version, version);
        let json = serde_json::to_string(&version).unwrap();
        assert_eq!(serde_json::from_str::<RoomVersion>(&json).unwrap(), version);
    }
    for unknown in ["", "0", "13", "01", "1 ", "org.example.v12"] {
        assert_eq!(unknown.parse::<RoomVersion>(), Err(UnknownVersion(unknown.into())));
    }
}

/// Every rule starts at one version, or ends at one: the tables must not flip back.
#[test]
fn rules_change_at_the_versions_of_the_specification() {
    type Rule = fn(&RoomVersionRules) -> bool;
    let since: [(Rule, u8); 19] = [
        (|r| r.event_id != EventIdFormat::Given, 3),
        (|r| r.event_id == EventIdFormat::UrlSafeBase64, 4),
        (|r| r.enforce_key_validity, 5),
        (|r| r.strict_canonical_json, 6),
        (|r| r.limit_notifications_power_levels, 6),
        (|r| r.knocking, 7),
        (|r| r.restricted_join, 8),
        (|r| r.redaction.keep_join_rules_allow, 8),
        (|r| r.redaction.keep_join_authorised_via, 9),
        (|r| r.knock_restricted, 10),
        (|r| r.integer_power_levels, 10),
        (|r| r.use_room_create_sender, 11),
        (|r| r.redacts_in_content, 11),
        (|r| r.redaction.keep_create_content, 11),
        (|r| r.redaction.keep_third_party_signed, 11),
        (|r| r.room_id_is_create_hash, 12),
        (|r| r.explicitly_privilege_room_creators && r.additional_creators, 12),
        (|r| r.state_res == StateResVersion::V2_1, 12),
        (|r| r.state_res != StateResVersion::V1, 2),
    ];
    let until: [(Rule, u8); 5] = [
        (|r| r.pair_references, 2),
        (|r| r.special_case_redactions, 2),
        (|r| r.special_case_aliases, 5),
        (|r| r.redaction.keep_aliases, 5),
        (|r| r.redaction.keep_origin_membership_prev_state, 10),
    ];
    for (number, version) in (1..).zip(RoomVersion::ALL) {
        for (index, (rule, first)) in since.iter().enumerate() {
            assert_eq!(rule(version.rules()), number >= *first, "rule {index} in version {version}");
        }
        for (index, (rule, last)) in until.iter().enumerate() {
            assert_eq!(rule(version.rules()), number <= *last, "old rule {index} in version {version}");
        }
    }
}
