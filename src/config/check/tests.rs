use super::*;

fn found(config: &Config) -> Vec<(Level, String)> {
    examine(config).into_iter().map(|finding| (finding.level, finding.key)).collect()
}

fn has(config: &Config, level: Level, key: &str) -> bool {
    found(config).contains(&(level, key.to_owned()))
}

/// A configuration with nothing to find.
fn good() -> (Config, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let (server_name, data_dir) = ("example.org".to_owned(), folder.path().join("data"));
    let mut config = Config { server_name, data_dir, ..Config::default() };
    config.client.public_baseurl = Some("https://matrix.example.org".to_owned());
    config.turn.tls_port = 0;
    (config, folder)
}

#[test]
fn what_is_well_set_up_has_no_findings() {
    assert_eq!(examine(&good().0), Vec::new());
    assert_eq!(examine(&Config::default()), Vec::new());
}

#[test]
fn every_contradiction_is_found_and_says_what_to_do() {
    type Change = fn(&mut Config);
    let cases: [(Level, &str, Change); 19] = [
        (Level::Warning, "registration", |config| config.registration = Registration::Open),
        (Level::Warning, "registration_token", |config| config.registration_token = Some("word".to_owned())),
        (Level::Warning, "rate_limits.enabled", |config| config.rate_limits.enabled = false),
        (Level::Warning, "allow_private_addresses", |config| config.allow_private_addresses = true),
        (Level::Warning, "metrics.listener", |config| config.metrics.listener = Some("0.0.0.0:9008".parse().unwrap())),
        (Level::Warning, "calls.enabled", |config| config.client.public_baseurl = None),
        (Level::Warning, "federation.enabled", |config| config.client.public_baseurl = None),
        (Level::Warning, "turn.tls_port", |config| config.turn.tls_port = 5349),
        (Level::Warning, "delayed_events.max_delay", |config| {
            config.delayed_events.max_delay = runtime::config::Span::seconds(0);
        }),
        (Level::Warning, "media.user_quota", |config| {
            config.media.user_quota = Some(runtime::config::ByteSize::mib(1));
        }),
        (Level::Warning, "federation.denied_servers", |config| {
            config.federation.allowed_servers = vec!["a.example".to_owned()];
            config.federation.denied_servers = vec!["a.example".to_owned()];
        }),
        (Level::Warning, "push.backoff", |config| config.push.backoff = runtime::config::Span::seconds(7200)),
        (Level::Error, "listeners", |config| config.listeners.push("[::]:8008".parse().unwrap())),
        (Level::Error, "listeners", |config| config.metrics.listener = Some("127.0.0.1:8008".parse().unwrap())),
        (Level::Error, "sfu.tcp_port", |config| config.sfu.tcp_port = config.turn.port),
        (Level::Error, "turn.relay_ports", |config| config.sfu.udp_port = config.turn.relay_ports.first),
        (Level::Error, "tls", |config| config.listeners = vec!["tls://127.0.0.1:8448".parse().unwrap()]),
        (Level::Error, "trusted_ca_file", |config| config.trusted_ca_file = Some("/nonexistent/ca.pem".into())),
        (Level::Error, "appservices.folder", |config| config.appservices.folder = Some("/nonexistent".into())),
    ];
    for (level, key, change) in cases {
        let (mut config, _folder) = good();
        change(&mut config);
        assert!(has(&config, level, key), "{key}: {:?}", found(&config));
        assert!(examine(&config).iter().all(|finding| !finding.advice.is_empty() && !finding.problem.is_empty()));
    }
}

#[test]
fn a_data_folder_that_is_a_file_is_an_error() {
    let (mut config, folder) = good();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    config.data_dir = file.clone();
    assert!(has(&config, Level::Error, "data_dir"));
    config.data_dir = file.join("below");
    assert!(has(&config, Level::Error, "data_dir"));
}

#[test]
fn a_key_of_another_certificate_is_an_error() {
    let (mut config, folder) = good();
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let pair = || rcgen::generate_simple_self_signed(vec!["example.org".to_owned()]).unwrap();
    let (one, other) = (pair(), pair());
    config.listeners = vec!["tls://127.0.0.1:8448".parse().unwrap()];
    config.tls.certificate = Some(write("certificate.pem", one.cert.pem()));
    config.tls.key = Some(write("key.pem", one.signing_key.serialize_pem()));
    assert!(!has(&config, Level::Error, "tls"));
    config.tls.key = Some(write("key.pem", other.signing_key.serialize_pem()));
    assert!(has(&config, Level::Error, "tls"));
}

#[test]
fn ports_of_other_families_and_port_0_are_not_used_twice() {
    let (mut config, _folder) = good();
    config.listeners = vec!["127.0.0.1:0".parse().unwrap(), "127.0.0.1:0".parse().unwrap()];
    assert!(!has(&config, Level::Error, "listeners"));
    config.listeners = vec!["127.0.0.1:8008".parse().unwrap(), "[::1]:8008".parse().unwrap()];
    assert!(!has(&config, Level::Error, "listeners"));
}
