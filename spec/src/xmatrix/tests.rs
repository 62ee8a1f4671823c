use serde_json::{Map, Value, json};

use super::*;

fn server(name: &str) -> ServerName {
    ServerName::parse(name).unwrap()
}

fn expected(destination: Option<&str>) -> XMatrix {
    XMatrix {
        origin: server("origin.hs.example.com"),
        destination: destination.map(server),
        key_id: "ed25519:key1".into(),
        signature: "ABCDEF+/x".into(),
    }
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

#[test]
fn every_spelling_that_the_specification_allows_is_read() {
    let with = expected(Some("destination.hs.example.com"));
    let same = [
        r#"X-Matrix origin="origin.hs.example.com",destination="destination.hs.example.com",key="ed25519:key1",sig="ABCDEF+/x""#,
        r#"x-mATRIX origin="origin.hs.example.com",destination="destination.hs.example.com",key="ed25519:key1",sig="ABCDEF+/x""#,
        r#"X-Matrix sig="ABCDEF+/x",key="ed25519:key1",destination="destination.hs.example.com",origin="origin.hs.example.com""#,
        r#"X-Matrix ORIGIN=origin.hs.example.com,Destination=destination.hs.example.com,KEY="ed25519:key1",Sig="ABCDEF+/x""#,
        r#"X-Matrix origin=origin.hs.example.com,destination=destination.hs.example.com,key=ed25519:key1,sig=ABCDEF+/x"#,
        "X-Matrix    origin=\"origin.hs.example.com\" \t, \tdestination=\"destination.hs.example.com\" ,key=\"ed25519:key1\",sig=\"ABCDEF+/x\"  ",
        r#"X-Matrix origin="origin.hs.\example.com",destination="destination.hs.example.com",key="ed25519\:key1",sig="ABCDEF+/x""#,
        r#"X-Matrix ,,origin="origin.hs.example.com",,destination="destination.hs.example.com",key="ed25519:key1",sig="ABCDEF+/x","#,
        r#"X-Matrix origin="origin.hs.example.com",extra="a\",b=c",destination="destination.hs.example.com",key="ed25519:key1",sig="ABCDEF+/x",other=1"#,
        r#"X-Matrix origin="origin.hs.example.com",destination="destination.hs.example.com",key="ed25519:key1",signature="ABCDEF+/x""#,
    ];
    for header in same {
        assert_eq!(XMatrix::parse(header), Ok(with.clone()), "{header}");
    }
    let without = r#"X-Matrix origin=origin.hs.example.com,key="ed25519:key1",sig="ABCDEF+/x""#;
    assert_eq!(XMatrix::parse(without), Ok(expected(None)));
    let literal = XMatrix::parse("X-Matrix origin=[::1]:8448,key=ed25519:a,sig=AA==").unwrap();
    assert_eq!((literal.origin.as_str(), &*literal.signature), ("[::1]:8448", "AA=="));
}

#[test]
fn what_is_no_header_is_refused_with_its_reason() {
    let long = format!("X-Matrix origin=a.b,key=ed25519:a,sig=A,x=\"{}\"", "y".repeat(MAX_HEADER_BYTES));
    let long_key = format!("X-Matrix origin=a.b,key=ed25519:{},sig=A", "k".repeat(256));
    let long_signature = format!("X-Matrix origin=a.b,key=ed25519:a,sig={}", "A".repeat(89));
    let cases: [(&str, XMatrixError); 16] = [
        ("", XMatrixError::WrongScheme),
        ("Bearer abc", XMatrixError::WrongScheme),
        ("X-Matrix", XMatrixError::WrongScheme),
        ("X-Matrix,origin=a.b", XMatrixError::WrongScheme),
        ("X-Matrix origin", XMatrixError::Malformed),
        ("X-Matrix origin=\"a.b", XMatrixError::Malformed),
        ("X-Matrix origin=\"a.b\\", XMatrixError::Malformed),
        ("X-Matrix origin=\"a.b\"key=ed25519:a", XMatrixError::Malformed),
        ("X-Matrix origin=,key=ed25519:a,sig=A", XMatrixError::Malformed),
        ("X-Matrix or igin=a.b", XMatrixError::Malformed),
        ("X-Matrix key=ed25519:a,sig=A", XMatrixError::Missing("origin")),
        ("X-Matrix origin=a.b,sig=A", XMatrixError::Missing("key")),
        ("X-Matrix origin=a.b,origin=c.d,key=ed25519:a,sig=A", XMatrixError::Duplicate("origin")),
        (&long, XMatrixError::TooLong),
        (&long_key, XMatrixError::ValueTooLong("key")),
        (&long_signature, XMatrixError::ValueTooLong("sig")),
    ];
    for (header, error) in cases {
        assert_eq!(XMatrix::parse(header), Err(error), "{header}");
    }
    assert!(matches!(
        XMatrix::parse("X-Matrix origin=\"a b\",key=ed25519:a,sig=A"),
        Err(XMatrixError::InvalidServer("origin", _))
    ));
}

#[test]
fn what_is_written_is_read_back() {
    let header = expected(Some("d.example:8448")).to_header();
    assert_eq!(
        header,
        r#"X-Matrix origin="origin.hs.example.com",destination="d.example:8448",key="ed25519:key1",sig="ABCDEF+/x""#
    );
    assert_eq!(XMatrix::parse(&header), Ok(expected(Some("d.example:8448"))));
}

#[test]
fn a_signature_covers_everything_that_the_request_says() {
    let key = SigningKey::from_seed([7; 32], "k").unwrap();
    let (origin, destination) = (server("o.example"), server("d.example"));
    let content = object(json!({"b": 1, "a": {"c": "ü"}}));
    let header = XMatrix::sign(&key, &origin, &destination, "PUT", "/_matrix/x?y=1", Some(&content));
    let verify = key.verify_key();
    assert_eq!(header.verify(&verify, &destination, "PUT", "/_matrix/x?y=1", Some(&content)), Ok(()));
    assert!(header.verify(&verify, &destination, "GET", "/_matrix/x?y=1", Some(&content)).is_err());
    assert!(header.verify(&verify, &destination, "PUT", "/_matrix/x?y=2", Some(&content)).is_err());
    assert!(header.verify(&verify, &origin, "PUT", "/_matrix/x?y=1", Some(&content)).is_err());
    assert!(header.verify(&verify, &destination, "PUT", "/_matrix/x?y=1", None).is_err());
    let stolen = XMatrix { origin: server("e.example"), ..header };
    assert!(stolen.verify(&verify, &destination, "PUT", "/_matrix/x?y=1", Some(&content)).is_err());
}

#[test]
fn the_signed_bytes_are_the_json_signing_of_the_specification() {
    let key = SigningKey::from_seed([7; 32], "k").unwrap();
    let (origin, destination) = (server("o.example"), server("d.example"));
    let content = object(json!({"z": [1, 2], "a": null}));
    let mut signed = object(json!({
        "method": "PUT", "uri": "/x", "origin": "o.example", "destination": "d.example", "content": content,
    }));
    key.sign_json(&mut signed, "o.example").unwrap();
    let header = XMatrix::sign(&key, &origin, &destination, "PUT", "/x", Some(&content));
    assert_eq!(signed["signatures"]["o.example"]["ed25519:k"], *header.signature);
}
