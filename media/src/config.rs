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
