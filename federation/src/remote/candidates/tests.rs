use super::*;

fn name(text: &str) -> ServerName {
    ServerName::parse(text).unwrap()
}

fn names(servers: &[&str]) -> Vec<ServerName> {
    servers.iter().map(|server| name(server)).collect()
}

fn order(via: &[&str], inviter: Option<&str>, room: &str, known: &[&str]) -> Vec<String> {
    let room = RoomId::parse(room).unwrap();
    let found = order_candidates(&name("us.test"), &names(via), inviter.map(name), &room, names(known));
    found.into_iter().map(|server| server.as_str().to_owned()).collect()
}

#[test]
fn the_servers_of_the_client_come_first_and_this_server_never() {
    let found = order(&["b.test", "us.test", "a.test", "b.test"], Some("i.test"), "!x:r.test", &["k.test", "a.test"]);
    assert_eq!(found, ["b.test", "a.test", "i.test", "r.test", "k.test"]);
    assert_eq!(order(&[], None, "!x:us.test", &["us.test"]), Vec::<String>::new());
    assert_eq!(order(&[], Some("r.test"), "!x:r.test", &[]), ["r.test"]);
}

#[test]
fn rooms_whose_id_names_no_server_are_entered_through_others() {
    let found = order(&["v.test"], None, "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM", &["k.test"]);
    assert_eq!(found, ["v.test", "k.test"]);
}

#[test]
fn their_number_is_bounded_and_known_servers_have_a_share() {
    let via: Vec<String> = (0..100).map(|n| format!("v{n}.test")).collect();
    let via: Vec<&str> = via.iter().map(String::as_str).collect();
    let found = order(&via, Some("i.test"), "!x:r.test", &["v50.test", "k.test"]);
    assert_eq!(found.len(), MAX_CANDIDATES);
    assert_eq!(&found[..2], ["v0.test", "v1.test"]);
    assert_eq!(&found[7..], ["i.test", "r.test", "v50.test"]);
}
