//! Settings of the server-server edge.

use runtime::config::{ByteSize, Span};

runtime::config_section! {
    /// Exchanging events with other servers.
    pub struct FederationConfig {
        /// Whether to exchange anything with other servers.
        pub enabled: bool = true;
        /// The only servers to exchange anything with; all if empty. `"*.example.org"` stands for every server below.
        pub allowed_servers: Vec<String> = Vec::new(), reloadable, example("[\"partner.example\", \"*.example.org\"]");
        /// Servers to exchange nothing with.
        pub denied_servers: Vec<String> = Vec::new(), reloadable, example("[\"spam.example\"]");
        /// Servers that are asked for the keys of servers that cannot be reached. What they say of others is believed.
        pub trusted_key_servers: Vec<String> = vec!["matrix.org".to_owned()];
        /// Whether others may see the public room list.
        pub share_public_rooms: bool = true, reloadable;
        /// Whether others may look up profiles.
        pub share_profiles: bool = true, reloadable;
        /// How long another server may take to answer a request.
        pub request_timeout: Span = Span::seconds(30), reloadable;
        /// How long connecting to another server may take.
        pub connect_timeout: Span = Span::seconds(10), reloadable;
        /// How long joining a room may take, which is much work for the other server.
        pub join_timeout: Span = Span::seconds(300), reloadable;
        /// Whether a room of another server is entered before all of its members are known here: at once, however large
        /// it is. They are fetched afterwards.
        pub partial_joins: bool = true;
        /// How long a room's policy server may take to recommend an event. Whoever sends it waits for that.
        pub policy_timeout: Span = Span::seconds(10), reloadable;
        /// The largest answer that is read from another server, but for joins and media.
        pub max_response: ByteSize = ByteSize::mib(32), reloadable;
        /// The largest answer to a join: the state of a room with 50,000 members takes about 100 MiB.
        pub max_join_response: ByteSize = ByteSize::mib(512), reloadable;
        /// The largest transaction that is accepted.
        pub max_transaction: ByteSize = ByteSize::mib(8), reloadable;
        /// How long a server that failed is left alone after the first failure; doubled with each further one.
        pub backoff: Span = Span::seconds(2), reloadable;
        /// The longest that a server that failed is left alone.
        pub max_backoff: Span = Span::seconds(3600), reloadable;
        /// How many transactions are on their way at a time, one to a server at most.
        pub max_concurrent_sends: usize = 64;
        /// How many requests of one other server are worked on at a time; further ones wait.
        pub max_concurrent_requests: usize = 32;
        /// How many missing events are fetched before a gap is left and the state after it is asked for.
        pub max_gap_events: usize = 100, reloadable;
        /// Whether presence is told to, and taken from, other servers.
        pub presence: bool = true, reloadable;
        /// Whether it is told to other servers that users are typing.
        pub typing: bool = true, reloadable;
        /// Where other servers reach this one, if not under its name: host and port, served as
        /// `/.well-known/matrix/server`. Nothing is served there without it.
        pub well_known_server: Option<String> = None, reloadable, example("\"matrix.example.org:443\"");
    }
}
