//! What a page says of itself: OpenGraph, and for what that leaves open Twitter's cards, the title, the description.

use html5gum::{DefaultEmitter, StartTag, Token, Tokenizer};

/// Bounds of what is kept of a page.
const MAX_PROPERTIES: usize = 50;
const MAX_NAME_BYTES: usize = 64;
const MAX_VALUE_BYTES: usize = 2048;
const MAX_ALL_BYTES: usize = 32 * 1024;

/// What a page says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Described {
    /// OpenGraph properties, without those of the image.
    pub properties: Vec<(String, String)>,
    /// The address of its image, which may be relative to its own.
    pub image: Option<String>,
}

/// Reads the text of a page.
pub(super) fn describe(html: &str) -> Described {
    let mut emitter = DefaultEmitter::default();
    // Else what stands in scripts would count.
    emitter.naively_switch_states(true);
    let mut found = Found::default();
    let mut title = Title::Awaited;
    for token in Tokenizer::new_with_emitter(html, emitter).flatten() {
        match token {
            Token::StartTag(tag) => match (&**tag.name, &title) {
                (b"meta", _) => found.take_meta(&tag),
                (b"link", _) => found.take_link(&tag),
                (b"title", Title::Awaited) => title = Title::Open(String::new()),
                _ => {}
            },
            Token::String(text) => {
                if let Title::Open(title) = &mut title {
                    title.push_str(&String::from_utf8_lossy(&text));
                }
            }
            Token::EndTag(tag) if **tag.name == *b"title" => title = title.close(),
            _ => {}
        }
    }
    found.finish(title)
}

/// The first `title` element; further ones belong to pictures in the page.
enum Title {
    Awaited,
    Open(String),
    Closed(String),
}

impl Title {
    fn close(self) -> Title {
        match self {
            Title::Open(text) => Title::Closed(text),
            other => other,
        }
    }
}

/// What was found so far; of everything the first counts.
#[derive(Default)]
struct Found {
    described: Described,
    /// How many bytes the properties have.
    bytes: usize,
    /// Where the image is said to be, by who says so; the first of these that is there counts.
    images: [Option<String>; 5],
    twitter_title: Option<String>,
    twitter_description: Option<String>,
    description: Option<String>,
}

impl Found {
    fn take_meta(&mut self, tag: &StartTag<()>) {
        let attribute = |name: &[u8]| tag.attributes.get(name).map(|value| String::from_utf8_lossy(value));
        let name = attribute(b"property").or_else(|| attribute(b"name"));
        let (Some(name), Some(value)) = (name, attribute(b"content")) else { return };
        let (name, value) = (name.trim().to_ascii_lowercase(), tidy(&value));
        if value.is_empty() {
            return;
        }
        let slot = match &*name {
            "og:image:secure_url" => &mut self.images[0],
            "og:image" => &mut self.images[1],
            "og:image:url" => &mut self.images[2],
            "twitter:image" | "twitter:image:src" => &mut self.images[3],
            "twitter:title" => &mut self.twitter_title,
            "twitter:description" => &mut self.twitter_description,
            "description" => &mut self.description,
            _ => return self.take_property(name, value),
        };
        slot.get_or_insert(value);
    }

    fn take_link(&mut self, tag: &StartTag<()>) {
        let attribute = |name: &[u8]| tag.attributes.get(name).map(|value| String::from_utf8_lossy(value));
        let names_image = attribute(b"rel").is_some_and(|rel| rel.eq_ignore_ascii_case("image_src"));
        if let Some(address) = attribute(b"href").filter(|_| names_image) {
            self.images[4].get_or_insert(tidy(&address));
        }
    }

    fn take_property(&mut self, name: String, value: String) {
        // Of the image we say ourselves what it is.
        let is_ours = matches!(&*name, "og:image:type" | "og:image:width" | "og:image:height");
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'-');
        let is_plain = name.len() <= MAX_NAME_BYTES && name.bytes().all(is_name);
        if !name.starts_with("og:") || is_ours || !is_plain {
            return;
        }
        let properties = &mut self.described.properties;
        let bytes = self.bytes + name.len() + value.len();
        let fits = properties.len() < MAX_PROPERTIES && bytes <= MAX_ALL_BYTES;
        if fits && !properties.iter().any(|(known, _)| *known == name) {
            self.bytes = bytes;
            properties.push((name, value));
        }
    }

    fn finish(mut self, title: Title) -> Described {
        let title = match title {
            Title::Closed(text) => Some(tidy(&text)).filter(|text| !text.is_empty()),
            Title::Awaited | Title::Open(_) => None,
        };
        let fallbacks = [
            ("og:title", self.twitter_title.take().or(title)),
            ("og:description", self.twitter_description.take().or_else(|| self.description.take())),
        ];
        let mut described = self.described;
        for (name, value) in fallbacks {
            if !described.properties.iter().any(|(known, _)| known == name) {
                described.properties.extend(value.map(|value| (name.to_owned(), value)));
            }
        }
        described.image = self.images.into_iter().flatten().next();
        if described.image.is_none() {
            described.properties.retain(|(name, _)| !name.starts_with("og:image"));
        }
        described
    }
}

/// One line, of bounded length.
fn tidy(text: &str) -> String {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > MAX_VALUE_BYTES {
            line.truncate(line.floor_char_boundary(MAX_VALUE_BYTES));
            break;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn property<'d>(described: &'d Described, name: &str) -> Option<&'d str> {
        described.properties.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    #[test]
    fn open_graph_is_read_with_entities_and_the_first_of_each_counts() {
        let page = describe(
            r#"<!doctype html><html><head prefix="og: http://ogp.me/ns#"><title>The Rock (1996)</title>
            <meta property="og:title" content="The &quot;Rock&quot;
              &amp; more"/><META NAME=og:type CONTENT=video.movie>
            <meta property="og:title" content="second"><meta property="og:image" content="test.png">
            <meta property="og:image:width" content="1"><meta property="og:image:alt" content="a rock">
            <meta property="fb:app_id" content="1"></head>"#,
        );
        assert_eq!(property(&page, "og:title"), Some("The \"Rock\" & more"));
        assert_eq!(property(&page, "og:type"), Some("video.movie"));
        assert_eq!(property(&page, "og:image:alt"), Some("a rock"));
        assert_eq!(page.properties.len(), 3, "{page:?}");
        assert_eq!(page.image.as_deref(), Some("test.png"));
    }

    #[test]
    fn what_open_graph_leaves_open_is_taken_from_elsewhere() {
        let page = describe(
            "<title>\n A  title</title><svg><title>icon</title></svg><meta name=description content='of it'>
            <link rel=image_src href=/a.png>",
        );
        assert_eq!(property(&page, "og:title"), Some("A title"));
        assert_eq!(property(&page, "og:description"), Some("of it"));
        assert_eq!(page.image.as_deref(), Some("/a.png"));
        let page =
            describe("<title>t</title><meta name=twitter:title content=card><meta name='twitter:image' content=c>");
        assert_eq!(property(&page, "og:title"), Some("card"));
        assert_eq!(page.image.as_deref(), Some("c"));
        assert_eq!(describe("<p>nothing</p>"), Described::default());
    }

    #[test]
    fn scripts_and_comments_say_nothing() {
        let inner = r#"<meta property="og:title" content="no">"#;
        for page in [
            format!("<script>var a = '{inner}';</script>"),
            format!("<!-- {inner} -->"),
            format!("<style>{inner}</style>"),
            format!("<textarea>{inner}</textarea>"),
        ] {
            assert_eq!(describe(&page), Described::default(), "{page}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let many: String =
            (0..200).map(|at| format!("<meta property='og:p{at}' content='{}'>", "word ".repeat(1000))).collect();
        let page = describe(&many);
        assert!(page.properties.len() <= MAX_PROPERTIES && !page.properties.is_empty());
        assert!(page.properties.iter().all(|(_, value)| value.len() <= MAX_VALUE_BYTES));
        let all: usize = page.properties.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(all <= MAX_ALL_BYTES);
        assert_eq!(
            describe("<meta property='og:é' content=x><meta property='og:a b' content=x>"),
            Described::default()
        );
    }
}
