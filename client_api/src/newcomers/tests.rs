use serde_json::json;

use super::has_link;

#[test]
fn links_are_found_and_mentions_are_none() {
    for content in [
        json!({"body": "look: https://spam.example/x"}),
        json!({"body": "HTTP://SPAM.EXAMPLE"}),
        json!({"body": "www.spam.example"}),
        json!({"m.new_content": {"formatted_body": "<a href=\"https://spam.example\">x</a>"}}),
        json!({"org.matrix.msc1767.text": [{"body": "https://matrix.to/#/@a:hs.test https://spam.example"}]}),
    ] {
        assert!(has_link(&content), "{content}");
    }
    for content in [
        json!({"body": "no link: http or www, and 10:30 // later"}),
        json!({"formatted_body": "<a href=\"https://matrix.to/#/@alice:hs.test\">Alice</a>"}),
        json!({"url": "mxc://hs.test/abc", "info": {"size": 3}}),
        json!({"ciphertext": "AwgAEn+/www"}),
    ] {
        assert!(!has_link(&content), "{content}");
    }
}
