use super::Query;

#[test]
fn arguments_are_decoded() {
    let query = Query::of("/x?a=1&b=%23r%3Ah+s&a=2&flag&bad=%ff&n=-3");
    assert_eq!(query.text("a").unwrap().as_deref(), Some("1"));
    assert_eq!(query.all("a").map(|value| value.unwrap().into_owned()).collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(query.text("b").unwrap().as_deref(), Some("#r:h s"));
    assert_eq!(query.text("flag").unwrap().as_deref(), Some(""));
    assert_eq!(query.text("absent").unwrap(), None);
    assert_eq!(query.text("bad").unwrap_err().errcode(), "M_INVALID_PARAM");
    assert_eq!(query.parsed::<u32>("n").unwrap_err().errcode(), "M_INVALID_PARAM");
    assert_eq!(query.required("absent").unwrap_err().errcode(), "M_MISSING_PARAM");
}

#[test]
fn limits_are_bounded() {
    assert_eq!(Query::of("/x").limit(10, 100).unwrap(), 10);
    assert_eq!(Query::of("/x?limit=5000").limit(10, 100).unwrap(), 100);
    for bad in ["/x?limit=0", "/x?limit=-1", "/x?limit=ten", "/x?limit=99999999999999999999999"] {
        assert_eq!(Query::of(bad).limit(10, 100).unwrap_err().errcode(), "M_INVALID_PARAM", "{bad}");
    }
}
