//! Previews of URLs, as clients get them.

use media::MediaConfig;
use serde_json::json;

use crate::server::{Server, run};

const ENDPOINTS: [&str; 2] = ["/_matrix/client/v1/media/preview_url", "/_matrix/media/v3/preview_url"];

fn switch_on(server: &Server, config: MediaConfig) {
    server.media.reload(MediaConfig { url_previews: true, ..config });
}

fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    bytes.extend(width.to_be_bytes());
    bytes.extend(height.to_be_bytes());
    bytes.extend([8, 6, 0, 0, 0]);
    let crc = bytes[12..].iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    });
    bytes.extend((!crc).to_be_bytes());
    // An empty part of the picture, which nobody decodes.
    bytes.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
    bytes
}

#[test]
fn a_page_is_described_and_its_image_can_be_downloaded() {
    run(async |server| {
        switch_on(&server, MediaConfig::default());
        let alice = server.register("alice").await;
        let page = r#"<html><head><title>no</title><meta property="og:title" content="The Rock">
            <meta property="og:image" content="test.png"></head></html>"#;
        server.pages.put("http://page.test/a/b.html", "text/html; charset=utf-8", page.as_bytes());
        server.pages.put("http://page.test/a/test.png", "image/png", &png(279, 129));
        for endpoint in ENDPOINTS {
            let url = format!("{endpoint}?url=http%3A%2F%2Fpage.test%2Fa%2Fb.html%23part");
            let found = alice.get(&url).await.ok();
            let image = found["og:image"].as_str().unwrap().to_owned();
            let expected = json!({
                "og:title": "The Rock", "og:image": image, "og:image:type": "image/png", "og:image:width": 279,
                "og:image:height": 129, "matrix:image:size": png(279, 129).len(),
            });
            assert_eq!(found, expected);
            let path = image.strip_prefix("mxc://").unwrap();
            let downloaded = alice.get(&format!("/_matrix/client/v1/media/download/{path}")).await;
            assert_eq!((downloaded.status.as_u16(), downloaded.bytes), (200, png(279, 129)));
        }
        let asked = server.pages.take_asked();
        assert_eq!(asked, ["http://page.test/a/b.html", "http://page.test/a/test.png"], "the second was remembered");
    });
}

#[test]
fn what_cannot_be_described_is_told_apart() {
    run(async |server| {
        let alice = server.register("alice").await;
        let preview = async |url: &str| alice.get(&format!("{}?url={url}", ENDPOINTS[0])).await;
        preview("http://page.test/").await.refused(404, "M_UNRECOGNIZED");
        let denied = vec!["*.inner.test".to_owned(), "page.test/private/*".to_owned()];
        switch_on(&server, MediaConfig { url_preview_denied: denied, ..MediaConfig::default() });
        server.pages.put("http://page.test/data", "application/json", b"{}");
        assert_eq!(preview("http://page.test/data").await.ok(), json!({}));
        preview("http://nobody.test/").await.refused(502, "M_UNKNOWN");
        preview("http://WWW.inner.test./").await.refused(403, "M_FORBIDDEN");
        preview("http://page.test/private/x").await.refused(403, "M_FORBIDDEN");
        for bad in ["nonsense", "ftp://page.test/", "http://a:b@page.test/", "file:///etc/passwd", "mailto:a@b.test"] {
            preview(bad).await.refused(400, "M_INVALID_PARAM");
        }
        alice.get(ENDPOINTS[0]).await.refused(400, "M_MISSING_PARAM");
        alice.get(&format!("{}?url=http://page.test/data&ts=x", ENDPOINTS[0])).await.refused(400, "M_INVALID_PARAM");
        server.get(&format!("{}?url=http://page.test/data", ENDPOINTS[0])).await.refused(401, "M_MISSING_TOKEN");
        assert_eq!(server.pages.take_asked(), ["http://page.test/data", "http://nobody.test/"]);
    });
}
