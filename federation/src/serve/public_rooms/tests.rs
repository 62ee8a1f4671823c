use super::{MAX_ROOMS, page_size, parse_place};

#[test]
fn a_page_has_a_bound() {
    for (limit, expected) in [(None, MAX_ROOMS), (Some(0), MAX_ROOMS), (Some(7), 7), (Some(usize::MAX), MAX_ROOMS)] {
        assert_eq!(page_size(limit), expected, "{limit:?}");
    }
    assert_eq!(parse_place("p1_12").ok(), Some(12));
    for bad in ["", "12", "p1_", "p1_-1", "p1_99999999999999999999999"] {
        assert!(parse_place(bad).is_err(), "{bad}");
    }
}
