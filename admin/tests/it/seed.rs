//! A server with something of everything.

use std::net::{IpAddr, Ipv4Addr};

use admin::Admin;
use admin::jobs::JobState;
use conduit::{Config, ConfigSources};
use serde_json::json;
use testkit::{Account, TestServer, encode_path_segment};
use users::{AccountKind, AdminRights, DeviceLogin, NewAccount, ReportFilter};

/// The content of the files that examples name.
pub(crate) const DOCUMENTS: &[(&str, &str)] = &[
    ("users.csv", "name,password\nimported,long-enough-pw\n"),
    (
        "registration.yaml",
        "id: new-bridge\nurl: null\nas_token: new-as-token\nhs_token: new-hs-token\nsender_localpart: new-bridge\n\
         namespaces: {}\n",
    ),
];

const BRIDGE: &str = "id: bridge\nurl: null\nas_token: the-as-token\nhs_token: the-hs-token\nsender_localpart: bridge\n\
                      namespaces: {}\n";

pub(crate) struct Seed {
    pub server: TestServer,
    /// Administers the server.
    pub alice: Account,
    /// Does not.
    pub user: Account,
    placeholders: Vec<(&'static str, String)>,
}

impl Seed {
    pub fn new() -> Seed {
        Seed::with(|_| {})
    }

    /// As [`Seed::new`], on a server with a changed configuration.
    pub fn with(adjust: impl FnOnce(&mut Config)) -> Seed {
        let server = TestServer::start_with(runtime::Clock::system(), |config| {
            config.allow_private_addresses = true;
            config.server_notices.localpart = Some("_server".to_owned());
            offer_calls(config);
            adjust(config);
        });
        let file = server.data_dir().with_file_name("conduit.toml");
        std::fs::write(&file, "server_name = \"hs.test\"\n[rate_limits]\nenabled = false\n").unwrap();
        server.set_origin(ConfigSources { file: Some(file), ..ConfigSources::default() });
        let alice = account(&server, "alice");
        let mut user = account(&server, "bob");
        let mut other = account(&server, "carol");
        let deactivated = account(&server, "dave");
        let unapproved = account(&server, "erin");
        let room = user.create_room(&json!({"preset": "public_chat", "room_alias_name": "meeting"}));
        other.join(&room);
        let event = user.send_text(&room, "t1", "hello");
        let upload = user.client.request_bytes("POST", "/_matrix/media/v3/upload", Some(&user.token), Some(b"content"));
        let mxc = upload.unwrap().json()["content_uri"].as_str().unwrap().to_owned();
        let report = format!("/rooms/{}/report/{}", encode_path_segment(&room), encode_path_segment(&event));
        other.expect("POST", &report, Some(&json!({"reason": "spam"})));
        // Nobody is there: so it fails, and is known.
        let _ = user.request("GET", "/profile/%40somebody%3A127.0.0.1%3A9", None);

        let admin = server.admin();
        let nid = |account: &Account| find(admin, account);
        let (dave, erin) = (nid(&deactivated), nid(&unapproved));
        let (job, report) = server.block_on(async {
            admin.users().deactivate(dave).await.unwrap();
            admin.users().change_facts(erin, |facts| facts.awaits_approval = true).await.unwrap();
            admin.users().create_registration_token(Some("welcome".to_owned()), None, None).await.unwrap();
            admin.users().add_appservice(BRIDGE).await.unwrap();
            let rebuild = admin::operations::prepare("search", "rebuild", serde_json::Map::new()).unwrap();
            let job = admin.perform(&admin::Caller::server(), rebuild).await.unwrap().to_json()["job"].to_string();
            assert_eq!(admin.jobs().wait(job.parse().unwrap()).await.unwrap().state, JobState::Done);
            let reports = admin.users().list_reports(&ReportFilter::default(), true, 0, 1).unwrap();
            (job, reports.items[0].id.to_string())
        });
        let directory = server.data_dir().with_file_name("backup").display().to_string();
        let placeholders = vec![
            ("admin", alice.user_id.clone()),
            ("user", user.user_id.clone()),
            ("other", other.user_id.clone()),
            ("deactivated", deactivated.user_id.clone()),
            ("unapproved", unapproved.user_id.clone()),
            ("device", "TEST".to_owned()),
            ("room", room),
            ("event", event),
            ("mxc", mxc),
            ("report", report),
            ("server", "127.0.0.1:9".to_owned()),
            ("token", "welcome".to_owned()),
            ("job", job),
            ("appservice", "bridge".to_owned()),
            ("directory", directory),
            ("document", "users.csv".to_owned()),
            ("registration", "registration.yaml".to_owned()),
        ];
        Seed { server, alice, user, placeholders }
    }

    pub fn admin(&self) -> &Admin {
        self.server.admin()
    }

    /// What examples mean by names in braces.
    pub fn placeholders(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.placeholders.clone().into_iter()
    }
}

/// Calls, at ports that nobody else has.
fn offer_calls(config: &mut Config) {
    config.client.public_baseurl = Some("https://hs.test".to_owned());
    config.sfu.listen = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    (config.sfu.udp_port, config.sfu.tcp_port, config.turn.enabled) = (0, 0, false);
}

fn find(admin: &Admin, account: &Account) -> rooms::UserNid {
    let user_id = admin.users().parse_local_user(&account.user_id).unwrap();
    admin.users().account_by_id(&user_id).unwrap().unwrap().user
}

/// A logged-in account without a password: hashing one takes long. The first one administers the server.
fn account(server: &TestServer, name: &str) -> Account {
    let users = server.admin().users();
    let session = server.block_on(async {
        let new = NewAccount {
            localpart: name,
            password: None,
            kind: AccountKind::User,
            admin: AdminRights::IfFirst,
            registration_token: None,
        };
        let user = users.create_account(new).await.unwrap().user;
        let login = DeviceLogin { device_id: Some("TEST"), display_name: Some("a device"), refreshable: false };
        users.start_session(user, login).await.unwrap()
    });
    Account { client: server.client(), user_id: session.user_id.to_string(), token: session.tokens.access_token }
}
