use serde_json::json;

use super::{Cell, Outcome, format_time};

#[test]
fn a_table_reads_in_columns_and_as_json() {
    let rows = vec![
        vec![Cell::text("@a:hs"), Cell::number(7), Cell::Flag(true)],
        vec![Cell::text("@long:hs"), Cell::number(12), Cell::None],
    ];
    let table = Outcome::table(&["user", "rooms", "admin"], rows).next(Some("12")).total(9);
    let text = "user      rooms  admin\n@a:hs         7  yes\n@long:hs     12  -\n2 of 9; more with --from 12";
    assert_eq!(table.to_string(), text);
    let items = json!([{"user": "@a:hs", "rooms": 7, "admin": true}, {"user": "@long:hs", "rooms": 12, "admin": null}]);
    assert_eq!(table.to_json(), json!({"items": items, "next": "12", "total": 9}));
}

#[test]
fn an_empty_table_says_so() {
    assert_eq!(Outcome::table(&["a"], vec![]).to_string(), "none");
}

#[test]
fn a_record_reads_in_lines_and_as_json() {
    let record = Outcome::record(vec![("name", "x\ny".into()), ("size", Cell::Bytes(1536))]);
    assert_eq!(record.to_string(), "name:  x y\nsize:  1.5 KiB");
    assert_eq!(record.to_json(), json!({"name": "x\ny", "size": 1536}));
}

#[test]
fn times_are_dates_of_utc() {
    assert_eq!(format_time(0), "1970-01-01 00:00:00");
    assert_eq!(format_time(951_782_400_000), "2000-02-29 00:00:00");
    assert_eq!(format_time(1_767_225_599_999), "2025-12-31 23:59:59");
    assert_eq!(format_time(4_107_542_400_000), "2100-03-01 00:00:00");
}
