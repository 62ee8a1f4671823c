//! The `media` section of the configuration.

use runtime::config::{ByteSize, Span};

runtime::config_section! {
    /// Files that users upload, copies of remote files, and thumbnails.
    pub struct MediaConfig {
        /// The largest file that a user may upload.
        pub max_upload: ByteSize = ByteSize::mib(50), reloadable;
        /// The largest file that is fetched from another server.
        pub max_remote: ByteSize = ByteSize::mib(50), reloadable;
        /// Images with more pixels get no thumbnail. Decoding takes up to 4 bytes for each pixel.
        pub max_image_pixels: u64 = 40_000_000, reloadable;
        /// Animations with more pixels, over all frames, get a still thumbnail.
        pub max_animation_pixels: u64 = 80_000_000, reloadable;
        /// How many media ids a user may have reserved and not yet filled.
        pub max_pending_uploads: u32 = 50, reloadable;
        /// How long a reserved media id waits for its upload.
        pub pending_lifetime: Span = Span::seconds(24 * 3600), reloadable;
        /// Whether media can be fetched without logging in, by the old endpoints. Whoever learns a
        /// media id can then read it, so leave this off unless old clients need it.
        pub unauthenticated_downloads: bool = false, reloadable;
        /// The longest that a download waits for an upload or a remote server, whatever the client asks.
        pub max_wait: Span = Span::seconds(60), reloadable;
        /// How much each user may store in all, as long as it is not deleted; no limit if it is not set. Further uploads
        /// are refused. Administrators can give single users another limit (`media quota`).
        pub user_quota: Option<ByteSize> = None, reloadable, example("\"2GiB\"");
        /// The same for guests, instead of `user_quota`.
        pub guest_quota: Option<ByteSize> = None, reloadable, example("\"50MiB\"");
        /// The same for moderators of this server, instead of `user_quota`.
        pub moderator_quota: Option<ByteSize> = None, reloadable, example("\"10GiB\"");
        /// The same for administrators of this server, instead of `user_quota`.
        pub administrator_quota: Option<ByteSize> = None, reloadable, example("\"20GiB\"");
        /// How much all users of this server may store together; no limit if it is not set. Copies of media of other
        /// servers do not count.
        pub server_quota: Option<ByteSize> = None, reloadable, example("\"500GiB\"");
        /// The page that tells users about these limits, shown to whoever reaches one. Without it they are shown the
        /// address of the server.
        pub quota_info_uri: Option<String> = None, reloadable, example("\"https://example.org/storage\"");
        /// Whether a user who reaches a limit can have it raised: clients may then offer that.
        pub quota_can_upgrade: bool = false, reloadable;
        /// Copies of media of other servers that nobody has asked for in this time are deleted. They are fetched again
        /// when somebody asks. Never if it is not set.
        pub remote_media_lifetime: Option<Span> = None, reloadable, example("\"90d\"");
        /// Media of this server's users that nobody has asked for in this time are deleted, for good. Pictures of users
        /// and rooms stay, and what is protected or in quarantine. Never if it is not set.
        pub local_media_lifetime: Option<Span> = None, reloadable, example("\"1095d\"");
        /// Whether the server fetches pages that users link to, to show their title and image. The server asks
        /// whatever public address somebody writes into a message, and whoever is asked learns of it; links of
        /// encrypted rooms become known to this server. So this is off unless somebody wants it.
        pub url_previews: bool = false, reloadable;
        /// The only pages that previews are made of; all if empty. Hosts, or hosts and paths, with `*` for anything:
        /// `"*.example.org"`, `"example.org/wiki/*"`.
        pub url_preview_allowed: Vec<String> = Vec::new(), reloadable, example("[\"*.example.org\"]");
        /// Pages that no previews are made of, written likewise. Addresses inside the server's network are never
        /// fetched, see `allow_private_addresses`.
        pub url_preview_denied: Vec<String> = Vec::new(), reloadable, example("[\"intranet.example.org\", \"example.org/private/*\"]");
        /// The largest image that is fetched for a preview.
        pub url_preview_max_image: ByteSize = ByteSize::mib(5), reloadable;
        /// How long fetching a page may take, and then fetching its image.
        pub url_preview_timeout: Span = Span::seconds(10), reloadable;
        /// How long a preview is given out before the page is fetched again.
        pub url_preview_lifetime: Span = Span::seconds(3600), reloadable;
        /// How many pages are fetched for one user in an hour; previews that others had made already do not count.
        pub url_preview_hourly_pages: u32 = 500, reloadable;
    }
}
