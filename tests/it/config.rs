//! Configuration: sources, precedence, mistakes, and the generated file.

use std::path::PathBuf;

use conduit::{
    ConfigError, ConfigSources, DurabilityMode, ListenAddress, Source, load_config, render_default_config,
    render_effective_config,
};

fn strings(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

/// Sources with a file of this content; the folder must outlive them.
fn with_file(content: &str) -> (tempfile::TempDir, ConfigSources) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("conduit.toml");
    std::fs::write(&path, content).unwrap();
    (folder, ConfigSources { file: Some(path), ..ConfigSources::default() })
}

fn with_argument(argument: &str) -> ConfigSources {
    ConfigSources { arguments: vec![argument.to_owned()], ..ConfigSources::default() }
}

fn errors_of(sources: &ConfigSources) -> Vec<ConfigError> {
    load_config(sources).unwrap_err().0
}

#[test]
fn the_committed_file_is_what_the_structs_say() {
    let committed = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/conduit.toml")).unwrap();
    assert!(
        committed == render_default_config(),
        "conduit.toml is stale: cargo run -- config default > conduit.toml.new && mv conduit.toml.new conduit.toml"
    );
}

#[test]
fn the_default_file_sets_nothing_and_every_line_of_it_is_right() {
    let (_folder, sources) = with_file(&render_default_config());
    assert!(load_config(&sources).unwrap().sources.is_empty());
    // Uncomment `#key = value`; documentation has a space after the sign.
    let uncommented: Vec<String> = render_default_config()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if setting.starts_with(|letter: char| letter.is_ascii_lowercase()) => setting.to_owned(),
            _ => line.to_owned(),
        })
        // The example names a file that this machine does not have.
        .filter(|line| !line.contains("file = \"/etc"))
        // An authority stands instead of a certificate in a file, so not all can be set.
        .filter(|line| !line.starts_with("authority_"))
        .collect();
    let (_folder, sources) = with_file(&uncommented.join("\n"));
    let loaded = load_config(&sources).unwrap();
    assert!(loaded.sources.len() > 25, "{:?}", loaded.sources.keys());
}

#[test]
fn arguments_win_over_the_environment_and_that_over_the_file() {
    let (_folder, mut sources) =
        with_file("server_name = \"file.example\"\ndurability = \"interval\"\n[log]\nlevel = \"debug\"\n");
    let file = sources.file.clone().unwrap();
    sources.environment = strings(&[
        ("CONDUIT_SERVER_NAME", "environment.example"),
        ("CONDUIT_LOG__LEVEL", "warn"),
        ("CONDUIT_CACHE", "/somewhere"),
        ("PATH", "/bin"),
    ]);
    sources.arguments = vec!["server_name=argument.example".to_owned(), "max_connections = 7".to_owned()];
    let loaded = load_config(&sources).unwrap();
    assert_eq!(loaded.config.server_name, "argument.example");
    assert_eq!(loaded.config.log.level, "warn");
    assert_eq!(loaded.config.durability, DurabilityMode::Interval);
    assert_eq!(loaded.config.max_connections, 7);
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_eq!(loaded.sources["server_name"], Source::Argument);
    assert_eq!(loaded.sources["log.level"], Source::Environment("CONDUIT_LOG__LEVEL".to_owned()));
    assert_eq!(loaded.sources["durability"], Source::File(file));
    assert!(!loaded.sources.contains_key("cache_bytes"));
}

#[test]
fn unknown_keys_are_refused_with_a_suggestion() {
    let (_folder, sources) =
        with_file("server_nmae = \"a.example\"\n[log]\nlevle = \"info\"\n[lgo]\nlevel = \"info\"\n");
    let mut suggestions: Vec<_> = errors_of(&sources)
        .into_iter()
        .map(|error| match error {
            ConfigError::UnknownKey { key, suggestion, .. } => (key, suggestion.unwrap_or_default()),
            other => panic!("{other}"),
        })
        .collect();
    suggestions.sort();
    let expected = [("lgo", "log.level"), ("log.levle", "log.level"), ("server_nmae", "server_name")];
    let (last_two, first) = (&suggestions[1..], &suggestions[0]);
    assert_eq!(first.0, "lgo");
    for ((key, suggestion), (expected_key, expected_suggestion)) in last_two.iter().zip(&expected[1..]) {
        assert_eq!((key.as_str(), suggestion.as_str()), (*expected_key, *expected_suggestion));
    }
    let text = load_config(&with_argument("certificate=x")).unwrap_err().to_string();
    assert!(text.contains("did you mean `tls.certificate`?"), "{text}");
    let text = load_config(&with_argument("qwertzuiop=x")).unwrap_err().to_string();
    assert!(!text.contains("did you mean"), "{text}");
}

#[test]
fn an_unknown_environment_variable_is_only_a_warning() {
    let environment = strings(&[("CONDUIT_PORT", "tcp://10.0.0.1:80"), ("CONDUIT_SERVER_NAM", "x")]);
    let loaded = load_config(&ConfigSources { environment, ..ConfigSources::default() }).unwrap();
    assert_eq!(loaded.warnings.len(), 2);
    assert!(loaded.warnings[1].contains("CONDUIT_SERVER_NAME?"), "{:?}", loaded.warnings);
}

#[test]
fn a_value_of_the_wrong_form_names_its_key_and_source() {
    let environment = strings(&[("CONDUIT_DURABILITY", "sometimes"), ("CONDUIT_CACHE_BYTES", "5 parsecs")]);
    let errors = errors_of(&ConfigSources { environment, ..ConfigSources::default() });
    let mut keys: Vec<_> = errors
        .iter()
        .map(|error| match error {
            ConfigError::BadValue { key, origin: Source::Environment(_), .. } => key.as_str(),
            other => panic!("{other}"),
        })
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, ["cache_bytes", "durability"]);
}

#[test]
fn a_value_can_be_taken_from_a_named_variable() {
    let content =
        "server_name = { env = \"SERVER_NAME\" }\nmax_connections = { env = \"LIMIT\" }\ncache_bytes = \"1MiB\"\n";
    let (_folder, mut sources) = with_file(content);
    sources.environment = strings(&[("SERVER_NAME", "12345"), ("LIMIT", "17")]);
    let loaded = load_config(&sources).unwrap();
    assert_eq!((loaded.config.server_name.as_str(), loaded.config.max_connections), ("12345", 17));
    assert_eq!(loaded.sources["server_name"], Source::Environment("SERVER_NAME".to_owned()));

    sources.environment = strings(&[("LIMIT", "many")]);
    let errors: Vec<String> = errors_of(&sources).iter().map(ToString::to_string).collect();
    assert!(
        errors.iter().any(|error| error.contains("`server_name`: the environment variable SERVER_NAME is not set"))
    );
    assert!(errors.iter().any(|error| error.contains("environment variable LIMIT: `max_connections`")), "{errors:?}");
}

#[test]
fn an_authority_and_a_certificate_exclude_each_other() {
    let files = "authority_certificate = \"/a.pem\"\nauthority_key = \"/b.pem\"\n";
    let listeners = "listeners = [\"tls://127.0.0.1:0\"]\n[tls]\n";
    let (_folder, sources) = with_file(&format!("{listeners}{files}"));
    load_config(&sources).unwrap();
    let (_folder, sources) = with_file(&format!("{listeners}{files}certificate = \"/c.pem\"\n"));
    assert!(errors_of(&sources)[0].to_string().contains("`tls.authority_certificate`"));
}

#[test]
fn mistakes_are_told_without_the_values_of_secrets() {
    for (file, place) in [
        ("registration_token = \"open sesame\n", "line 1, column "),
        ("server_name = \"hs.test\"\nregistration_token = open sesame\n", "line 2, column "),
        ("registration_token = \"open sesame\" \"again\"\n", "line 1, column "),
        ("registration_shared_secret = [\"open sesame\"]\n", "`registration_shared_secret`"),
        ("registration_token = 5123987\n", "`registration_token`"),
    ] {
        let (_folder, sources) = with_file(file);
        let told = load_config(&sources).unwrap_err().to_string();
        assert!(told.contains(place), "{told}");
        assert!(!told.contains("sesame") && !told.contains("5123987"), "{told}");
    }
}

#[test]
fn contradictions_are_found() {
    for (argument, key) in [
        ("listeners=[\"tls://127.0.0.1:0\"]", "tls.certificate"),
        ("tls.authority_key=/a-key.pem", "tls.authority_certificate"),
        ("tls.authority_certificate=/an-authority.pem", "tls.authority_key"),
        ("listeners=[]", "listeners"),
        ("server_name=not a name", "server_name"),
        ("default_room_version=99", "default_room_version"),
        ("registration_token=", "registration_token"),
        ("log.level=info,=", "log.level"),
    ] {
        let errors = errors_of(&with_argument(argument));
        assert!(errors.iter().any(|error| error.to_string().contains(&format!("`{key}`"))), "{argument}: {errors:?}");
    }
}

#[test]
fn values_outside_the_file_need_no_quotes() {
    let sources = ConfigSources {
        arguments: vec![
            "registration_token=12345".to_owned(),
            "listeners=[\"127.0.0.1:1\", \"unix:/run/x.sock\"]".to_owned(),
            "default_room_version=11".to_owned(),
            "allow_private_addresses=true".to_owned(),
            "cache_bytes=64MiB".to_owned(),
            "rate_limits.message={ per_second = 1, burst = 2 }".to_owned(),
        ],
        ..ConfigSources::default()
    };
    let config = load_config(&sources).unwrap().config;
    assert_eq!(config.registration_token.as_deref(), Some("12345"));
    assert_eq!(config.listeners[1], ListenAddress::Unix(PathBuf::from("/run/x.sock")));
    assert_eq!(config.default_room_version, "11");
    assert!(config.allow_private_addresses);
    assert_eq!(config.cache_bytes.bytes(), 64 << 20);
    assert_eq!(config.rate_limits.message.burst, 2);
}

#[test]
fn a_secret_can_be_in_its_own_file_and_is_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "open sesame\n").unwrap();
    let argument = format!("registration_shared_secret={{ file = {:?} }}", secret.to_str().unwrap());
    let loaded = load_config(&with_argument(&argument)).unwrap();
    assert_eq!(loaded.config.registration_shared_secret.as_deref(), Some("open sesame"));
    let shown = render_effective_config(&loaded);
    assert!(shown.contains("registration_shared_secret = (set, not shown)  # --set"), "{shown}");
    assert!(!shown.contains("sesame"));
    let missing = load_config(&with_argument("registration_token={ file = \"/nonexistent\" }")).unwrap_err();
    assert!(missing.to_string().contains("/nonexistent"), "{missing}");
}
