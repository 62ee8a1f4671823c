use super::Query;

#[test]
fn repeated_arguments_come_in_order_and_decoded() {
    let query = Query::of("/x?ver=1&v=%24a%2Fb&ver=org.example%2B1&v=a+b&limit=");
    let versions: Vec<_> = query.all("ver").map(|value| value.expect("UTF-8").into_owned()).collect();
    assert_eq!(versions, ["1", "org.example+1"]);
    let ids: Vec<_> = query.all("v").map(|value| value.expect("UTF-8").into_owned()).collect();
    assert_eq!(ids, ["$a/b", "a b"]);
    assert_eq!(query.parsed::<usize>("limit").map_err(|error| error.errcode()), Err("M_INVALID_PARAM"));
}

#[test]
fn absent_and_malformed_arguments_are_told_apart() {
    let query = Query::of("/x?name=%ff&ts=12&event_id=nonsense");
    assert_eq!(query.required("other").map_err(|error| error.errcode()).map(drop), Err("M_MISSING_PARAM"));
    assert_eq!(query.text("name").map_err(|error| error.errcode()).map(drop), Err("M_INVALID_PARAM"));
    assert_eq!(query.required_as::<i64>("ts").map_err(|error| error.errcode()), Ok(12));
    let malformed = query.required_as::<spec::ids::EventId>("event_id").map_err(|error| error.errcode());
    assert_eq!(malformed.map(drop), Err("M_INVALID_PARAM"));
    let long = Query::of(&format!("/x?event_id=${}", "a".repeat(300)));
    let long = long.required_as::<spec::ids::EventId>("event_id").map_err(|error| error.errcode());
    assert_eq!(long.map(drop), Err("M_INVALID_PARAM"));
}
