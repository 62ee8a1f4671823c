use super::*;

#[test]
fn days_are_those_of_utc() {
    assert_eq!((day_of(0), day_of(86_399_999), day_of(86_400_000)), (0, 0, 1));
    assert_eq!(begin_of(day_of(1_700_000_000_000)), 1_699_920_000_000);
}
