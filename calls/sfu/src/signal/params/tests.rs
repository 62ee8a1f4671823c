use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

fn request() -> proto::JoinRequest {
    proto::JoinRequest {
        connection_settings: Some(proto::ConnectionSettings {
            auto_subscribe: true,
            adaptive_stream: true,
            ..Default::default()
        }),
        reconnect: true,
        participant_sid: "PA_x".to_owned(),
        metadata: "m".repeat(100),
        ..Default::default()
    }
}

fn query(compression: i32, join_request: Vec<u8>) -> Query {
    let wrapped = proto::WrappedJoinRequest { compression, join_request };
    Query { join_request: Some(URL_SAFE.encode(wrapped.encode_to_vec())), ..Query::default() }
}

fn zip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_join_request_is_read_plain_and_zipped() {
    let plain = query(0, request().encode_to_vec()).read_request().unwrap();
    assert!(plain.auto_subscribe && plain.adaptive_stream);
    assert_eq!(plain.resume.as_deref(), Some("PA_x"));
    assert_eq!(query(1, zip(&request().encode_to_vec())).read_request(), Ok(plain));
}

#[test]
fn padding_may_be_there_or_not() {
    let mut padded = query(0, request().encode_to_vec());
    let text = padded.join_request.take().unwrap();
    let stripped = Query { join_request: Some(text.trim_end_matches('=').to_owned()), ..Query::default() };
    assert!(stripped.read_request().is_ok());
}

#[test]
fn bad_join_requests_are_refused() {
    let bomb = zip(&vec![0; 64 * 1024 * 1024]);
    assert_eq!(query(1, bomb).read_request(), Err(BadJoinRequest));
    assert_eq!(query(1, vec![1, 2, 3]).read_request(), Err(BadJoinRequest));
    assert_eq!(query(0, vec![0xff; 9]).read_request(), Err(BadJoinRequest));
    let garbage = Query { join_request: Some("%%%".to_owned()), ..Query::default() };
    assert_eq!(garbage.read_request(), Err(BadJoinRequest));
    assert!(Query::default().read_request().unwrap().auto_subscribe);
}

#[test]
fn flags_are_read() {
    let query = Query {
        auto_subscribe: Some("0".to_owned()),
        reconnect: Some("1".to_owned()),
        sid: "PA_y".to_owned(),
        protocol: "17".to_owned(),
        ..Query::default()
    };
    let hello = query.read_flags();
    assert!(!hello.auto_subscribe && !hello.adaptive_stream);
    assert_eq!((hello.resume.as_deref(), hello.client.protocol), (Some("PA_y"), 17));
}
