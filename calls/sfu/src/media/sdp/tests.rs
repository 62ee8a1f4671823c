use super::*;

const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1 2 3\r\n\
m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0\r\na=sctp-port:5000\r\n\
m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:1\r\na=sendonly\r\na=msid:stream mic-cid\r\n\
m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:2\r\na=sendonly\r\na=msid:- cam-cid\r\na=rid:q send\r\na=rid:h send\r\n\
a=rid:f send\r\na=simulcast:send q;h;f\r\n\
m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:3\r\na=recvonly\r\n";

#[test]
fn sections_are_read() {
    let sections = sections(OFFER).unwrap();
    let of = |mid: &str| sections.iter().find(|section| section.mid == mid).unwrap();
    assert_eq!(sections.len(), 4);
    assert_eq!(of("0").kind, Kind::Data);
    assert_eq!(of("1").track.as_deref(), Some("mic-cid"));
    assert_eq!(of("2").rids, ["q", "h", "f"]);
    assert_eq!(of("3").direction, Direction::RecvOnly);
    assert_eq!(of("3").track, None);
}

#[test]
fn an_unused_line_is_parked_and_nothing_else_changes() {
    assert_eq!(park(OFFER, |_| true), OFFER);
    let parked = park(OFFER, |_| false);
    assert_eq!(parked, OFFER.replace("a=recvonly", "a=inactive"));
}

#[test]
fn a_sending_line_gets_its_label_and_others_lose_theirs() {
    let answer = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:1\r\na=recvonly\r\na=msid:x y\r\n\
m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:3\r\na=sendonly\r\na=msid:old older\r\na=ssrc:77 cname:c\r\n\
a=ssrc:77 msid:old older\r\na=ssrc-group:FID 77 78\r\na=ssrc:78 cname:c\r\n";
    let label_3 = Label { stream: "PA_a|TR_b".to_owned(), track: "TR_b".to_owned() };
    let labelled =
        label(answer, &HashMap::from([("3".to_owned(), label_3.clone()), ("1".to_owned(), label_3)]), |_| true);
    assert_eq!(
        labelled,
        "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:1\r\na=recvonly\r\n\
m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:3\r\na=sendonly\r\na=msid:PA_a|TR_b TR_b\r\na=ssrc:77 cname:c\r\n\
a=ssrc:77 msid:PA_a|TR_b TR_b\r\na=ssrc-group:FID 77 78\r\na=ssrc:78 cname:c\r\na=ssrc:78 msid:PA_a|TR_b TR_b\r\n"
    );
}

#[test]
fn bad_descriptions_are_refused() {
    assert_eq!(sections("v=0\r\nm=audio 9 X 1\r\n"), Err(BadSdp::NoMid));
    assert_eq!(sections(&"x".repeat(MAX_SDP + 1)), Err(BadSdp::TooLong));
    let many = format!("v=0\r\n{}", "m=audio 9 X 1\r\na=mid:1\r\n".repeat(MAX_SECTIONS + 1));
    assert_eq!(sections(&many), Err(BadSdp::TooManySections));
    assert_eq!(sections(""), Ok(vec![]));
    assert_eq!(sections("m="), Ok(vec![]));
}

#[test]
fn redundant_audio_is_not_offered() {
    let offer = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111 63 9\r\na=mid:1\r\na=sendonly\r\na=rtpmap:111 opus/48000/2\r\n\
a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\na=rtpmap:9 G722/8000\r\n";
    let without = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111 9\r\na=mid:1\r\na=sendonly\r\na=rtpmap:111 opus/48000/2\r\n\
a=rtpmap:9 G722/8000\r\n";
    assert_eq!(park(offer, |_| true), without);
}

#[test]
fn silence_is_not_sent_where_the_client_sends() {
    let line = |mid: u8, direction: &str, format: &str| {
        format!(
            "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:{mid}\r\na={direction}\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 {format}\r\n"
        )
    };
    let answer = |first: &str| {
        format!("v=0\r\n{}{}{}", line(1, "recvonly", first), line(2, "recvonly", "a=1"), line(3, "sendonly", "a=1"))
    };
    assert_eq!(label(&answer("a=1"), &HashMap::new(), |mid| mid == "2"), answer("a=1;usedtx=1"));
}
