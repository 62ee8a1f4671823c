use http::HeaderValue;

use super::*;

const NOW: u64 = 1_000_000_000_000;

fn delegated(max_age_ms: Option<u64>) -> Answer {
    Answer::Delegated { to: ServerName::parse("b.org").unwrap(), max_age_ms }
}

fn lasts(answer: Answer, before: Option<&Remembered>) -> u64 {
    Remembered::after(answer, before, NOW).fresh_until_ms - NOW
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pairs =
        pairs.iter().map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), HeaderValue::from_static(value)));
    pairs.collect()
}

#[test]
fn documents_last_as_they_say_within_bounds() {
    assert_eq!(lasts(delegated(None), None), DEFAULT_MS);
    assert_eq!(lasts(delegated(Some(HOUR_MS)), None), HOUR_MS);
    assert_eq!(lasts(delegated(Some(0)), None), MIN_MS);
    assert_eq!(lasts(delegated(Some(u64::MAX)), None), MAX_MS);
    assert_eq!(lasts(Answer::Absent, None), ABSENT_MS);
}

#[test]
fn failures_are_retried_ever_later() {
    let mut known = Remembered::after(Answer::Failed, None, NOW);
    let mut pauses = vec![known.fresh_until_ms - NOW];
    for _ in 0..8 {
        known = Remembered::after(Answer::Failed, Some(&known), NOW);
        pauses.push(known.fresh_until_ms - NOW);
    }
    let minutes: Vec<u64> = pauses.iter().map(|pause| pause / MINUTE_MS).collect();
    assert_eq!(minutes, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    assert_eq!(known.delegated, None);
}

#[test]
fn a_delegation_outlasts_failures_but_not_two_days() {
    let learnt = Remembered::after(delegated(None), None, NOW);
    let soon = Remembered::after(Answer::Failed, Some(&learnt), NOW + DEFAULT_MS);
    assert_eq!(soon.delegated, learnt.delegated);
    let late = Remembered::after(Answer::Failed, Some(&soon), NOW + MAX_MS);
    assert_eq!(late.delegated, None);
    assert_eq!(Remembered::after(Answer::Absent, Some(&learnt), NOW).delegated, None);
}

#[test]
fn documents_are_read_as_the_schema_says() {
    let server = |body: &str| read_document(body.as_bytes()).map(|server| server.to_string());
    assert_eq!(server(r#"{"m.server": "b.org:443", "other": [1]}"#).as_deref(), Some("b.org:443"));
    for bad in [
        "",
        "[]",
        "{}",
        r#"{"m.server": 1}"#,
        r#"{"m.server": ""}"#,
        r#"{"m.server": "https://b.org"}"#,
        "{\"m.server\": \"b.org\"",
    ] {
        assert_eq!(server(bad), None, "{bad}");
    }
}

#[test]
fn cache_headers_are_understood() {
    let age = |pairs: &[(&'static str, &'static str)]| read_max_age_ms(&headers(pairs), 784_111_777_000);
    assert_eq!(age(&[]), None);
    assert_eq!(age(&[("cache-control", "public, max-age=60")]), Some(60_000));
    assert_eq!(age(&[("cache-control", "Max-Age=\"60\"")]), Some(60_000));
    assert_eq!(age(&[("cache-control", "max-age=60, no-cache")]), Some(0));
    assert_eq!(age(&[("cache-control", "no-store")]), Some(0));
    assert_eq!(age(&[("cache-control", "max-age=x")]), None);
    assert_eq!(age(&[("cache-control", "max-age=99999999999999999999")]), None);
    assert_eq!(age(&[("expires", "Sun, 06 Nov 1994 08:50:37 GMT")]), Some(60_000));
    assert_eq!(age(&[("expires", "Sun, 06 Nov 1994 08:48:37 GMT")]), Some(0));
    assert_eq!(age(&[("expires", "0")]), Some(0));
    assert_eq!(age(&[("expires", "0"), ("cache-control", "max-age=1")]), Some(1000));
}

#[test]
fn dates_are_read() {
    assert_eq!(parse_http_date_ms("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
    assert_eq!(parse_http_date_ms("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777_000));
    assert_eq!(parse_http_date_ms("Thu, 29 Feb 2024 12:00:00 GMT"), Some(1_709_208_000_000));
    for bad in [
        "",
        "x",
        "Sun, 06 Nov 1994",
        "Sun, 99 Nov 1994 08:49:37 GMT",
        "Sun, 06 Foo 1994 08:49:37 GMT",
        "Sun, 06 Nov 99999999999 08:49:37 GMT",
    ] {
        assert_eq!(parse_http_date_ms(bad), None, "{bad}");
    }
}
