use super::*;

fn name(text: &str) -> ServerName {
    ServerName::parse(text).unwrap()
}

fn srv(priority: u16, weight: u16, port: u16, target: &str) -> SrvRecord {
    SrvRecord { priority, weight, port, target: target.to_owned() }
}

/// What the network of a case answers.
#[derive(Default)]
struct Network {
    well_known: Option<&'static str>,
    srv: &'static [(&'static str, u16, &'static str)],
}

/// Walks to the end: the questions asked, and the route as text or the error.
fn walk(server: &str, network: &Network) -> (Vec<String>, Result<String, DiscoveryError>) {
    let mut asked = Vec::new();
    let mut walk = match Walk::start(&name(server)) {
        Ok(walk) => walk,
        Err(error) => return (asked, Err(error)),
    };
    loop {
        let next = match walk.question() {
            Question::WellKnown(host) => {
                asked.push(format!("well-known {host}"));
                walk.clone().tell_well_known(network.well_known.map(name).as_ref())
            }
            Question::Srv(service) => {
                let found = network.srv.iter().filter(|(of, ..)| *of == service);
                let records = found.map(|(_, port, target)| srv(1, 1, *port, target)).collect();
                asked.push(service);
                walk.clone().tell_srv(records, |_| 0)
            }
            Question::Done(route) => return (asked, Ok(describe(route))),
        };
        match next {
            Ok(next) => walk = next,
            Err(error) => return (asked, Err(error)),
        }
    }
}

/// `Host`, certificate, and where to connect.
fn describe(route: &Route) -> String {
    let host = |host: &Host| match host {
        Host::Address(address) => format!("ip {address}"),
        Host::Name(name) => name.clone(),
    };
    let targets: Vec<String> =
        route.targets.iter().map(|target| format!("{} port {}", host(&target.host), target.port)).collect();
    format!("Host {}, TLS {}, connect {}", route.host_header, host(&route.tls_name), targets.join(" or "))
}

#[test]
fn every_step_of_the_specification_leads_where_it_says() {
    let delegate = |to: &'static str| Network { well_known: Some(to), ..Network::default() };
    let fed = |srv| Network { well_known: None, srv };
    let cases: Vec<(&str, &str, Network, &str)> = vec![
        (
            "1 without a port",
            "1.2.3.4",
            Network::default(),
            "Host 1.2.3.4, TLS ip 1.2.3.4, connect ip 1.2.3.4 port 8448",
        ),
        (
            "1 with a port",
            "1.2.3.4:99",
            Network::default(),
            "Host 1.2.3.4:99, TLS ip 1.2.3.4, connect ip 1.2.3.4 port 99",
        ),
        ("1 IPv6", "[2a00::1]", Network::default(), "Host [2a00::1], TLS ip 2a00::1, connect ip 2a00::1 port 8448"),
        (
            "1 IPv6 with a port",
            "[2a00::1]:99",
            Network::default(),
            "Host [2a00::1]:99, TLS ip 2a00::1, connect ip 2a00::1 port 99",
        ),
        ("2", "a.org:99", Network::default(), "Host a.org:99, TLS a.org, connect a.org port 99"),
        (
            "3.1 without a port",
            "a.org",
            delegate("1.2.3.4"),
            "Host 1.2.3.4, TLS ip 1.2.3.4, connect ip 1.2.3.4 port 8448",
        ),
        (
            "3.1 with a port",
            "a.org",
            delegate("[2a00::1]:99"),
            "Host [2a00::1]:99, TLS ip 2a00::1, connect ip 2a00::1 port 99",
        ),
        ("3.2", "a.org", delegate("b.org:99"), "Host b.org:99, TLS b.org, connect b.org port 99"),
        (
            "3.3",
            "a.org",
            Network {
                well_known: Some("b.org"),
                srv: &[("_matrix-fed._tcp.b.org", 99, "c.org"), ("_matrix._tcp.b.org", 1, "d.org")],
            },
            "Host b.org, TLS b.org, connect c.org port 99",
        ),
        (
            "3.4",
            "a.org",
            Network {
                well_known: Some("b.org"),
                srv: &[("_matrix._tcp.b.org", 99, "c.org"), ("_matrix-fed._tcp.a.org", 1, "d.org")],
            },
            "Host b.org, TLS b.org, connect c.org port 99",
        ),
        ("3.5", "a.org", delegate("b.org"), "Host b.org, TLS b.org, connect b.org port 8448"),
        (
            "4",
            "a.org",
            fed(&[("_matrix-fed._tcp.a.org", 99, "c.org"), ("_matrix._tcp.a.org", 1, "d.org")]),
            "Host a.org, TLS a.org, connect c.org port 99",
        ),
        ("5", "a.org", fed(&[("_matrix._tcp.a.org", 99, "c.org")]), "Host a.org, TLS a.org, connect c.org port 99"),
        ("6", "a.org", Network::default(), "Host a.org, TLS a.org, connect a.org port 8448"),
        ("delegation to itself", "a.org", delegate("a.org"), "Host a.org, TLS a.org, connect a.org port 8448"),
        (
            "an SRV target that is an address",
            "a.org",
            fed(&[("_matrix-fed._tcp.a.org", 99, "1.2.3.4")]),
            "Host a.org, TLS a.org, connect ip 1.2.3.4 port 99",
        ),
    ];
    for (step, server, network, expected) in cases {
        assert_eq!(walk(server, &network).1.as_deref(), Ok(expected), "step {step}");
    }
}

#[test]
fn nothing_is_asked_that_the_name_already_says() {
    let asked = |server, network: &Network| walk(server, network).0;
    let nothing = Network::default();
    assert!(asked("1.2.3.4", &nothing).is_empty());
    assert!(asked("a.org:8448", &nothing).is_empty());
    assert_eq!(asked("a.org", &nothing), ["well-known a.org", "_matrix-fed._tcp.a.org", "_matrix._tcp.a.org"]);
    let with_port = Network { well_known: Some("b.org:1"), srv: &[] };
    assert_eq!(asked("a.org", &with_port), ["well-known a.org"]);
    let found = Network { well_known: None, srv: &[("_matrix-fed._tcp.a.org", 1, "c.org")] };
    assert_eq!(asked("a.org", &found), ["well-known a.org", "_matrix-fed._tcp.a.org"]);
}

#[test]
fn names_that_lead_nowhere_say_so() {
    let error = |server, network: &Network| walk(server, network).1.unwrap_err();
    let nothing = Network::default();
    assert_eq!(error("a.org:0", &nothing), DiscoveryError::BadPort(name("a.org:0")));
    assert_eq!(error("a.org:65536", &nothing), DiscoveryError::BadPort(name("a.org:65536")));
    assert_eq!(error("1.2.3.4:99999", &nothing), DiscoveryError::BadPort(name("1.2.3.4:99999")));
    let bad = Network { well_known: Some("b.org:70000"), srv: &[] };
    assert_eq!(error("a.org", &bad), DiscoveryError::BadPort(name("b.org:70000")));
    let off = Network { well_known: None, srv: &[("_matrix-fed._tcp.a.org", 0, "")] };
    assert_eq!(error("a.org", &off), DiscoveryError::NoService(name("a.org")));
}

#[test]
fn a_delegated_name_is_not_delegated_again() {
    let walk = Walk::start(&name("a.org")).unwrap();
    assert_eq!(walk.host_header(), None);
    let walk = walk.tell_well_known(Some(&name("b.org"))).unwrap();
    assert_eq!(walk.host_header(), Some(&name("b.org")));
    assert_eq!(walk.question(), Question::Srv("_matrix-fed._tcp.b.org".to_owned()));
}

#[test]
fn srv_records_come_by_priority_and_within_it_by_weight() {
    let records = || vec![srv(2, 0, 1, "late"), srv(1, 10, 2, "heavy"), srv(1, 0, 3, "none"), srv(1, 5, 4, "light")];
    let order = |draws: &[u64]| {
        let mut draws = draws.iter();
        let ordered = order_by_weight(records(), |bound| {
            let draw = *draws.next().unwrap();
            assert!(draw < bound, "{draw} of {bound}");
            draw
        });
        ordered.into_iter().map(|record| record.target).collect::<Vec<_>>()
    };
    assert_eq!(order(&[0, 0, 0, 0]), ["none", "heavy", "light", "late"]);
    assert_eq!(order(&[15, 10, 0, 0]), ["light", "heavy", "none", "late"]);
    assert_eq!(order(&[10, 5, 0, 0]), ["heavy", "light", "none", "late"]);
}

#[test]
fn the_number_of_srv_records_is_bounded() {
    let walk = Walk::start_delegated(&name("a.org")).unwrap();
    let records = (0..1000).map(|port| srv(1, 1, port, "c.org")).collect();
    let walk = walk.tell_srv(records, |_| 0).unwrap();
    let Question::Done(route) = walk.question() else { panic!("not done") };
    assert_eq!(route.targets.len(), MAX_SRV_RECORDS);
}
