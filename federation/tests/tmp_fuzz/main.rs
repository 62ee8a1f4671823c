#![allow(clippy::all, clippy::unwrap_used)]
pub trait Input<'a>: Sized {
    fn of(bytes: &'a [u8]) -> Option<Self>;
}
impl<'a> Input<'a> for &'a [u8] {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        Some(bytes)
    }
}
impl<'a> Input<'a> for &'a str {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        std::str::from_utf8(bytes).ok()
    }
}
macro_rules! fuzz_target {
    (|$name:ident: $type:ty| $body:expr) => {
        fn one($name: $type) {
            $body
        }
        pub fn run(bytes: &[u8]) {
            if let Some(input) = <$type as crate::Input>::of(bytes) {
                one(input)
            }
        }
    };
}
mod join_answer;
mod key_document;
mod multipart;
mod transaction;
mod x_matrix;
struct Rng(u64);
impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n.max(1)
    }
}
fn smoke(target: &str, run: fn(&[u8])) {
    let dir = format!("{}/../fuzz/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
    let seeds: Vec<Vec<u8>> =
        std::fs::read_dir(&dir).unwrap().map(|f| std::fs::read(f.unwrap().path()).unwrap()).collect();
    let words: Vec<Vec<u8>> = std::fs::read_to_string(format!("{dir}.dict"))
        .unwrap()
        .lines()
        .map(|l| {
            l.trim_matches('"').replace("\\\"", "\"").replace("\\x0d\\x0a", "\r\n").replace("\\\\", "\\").into_bytes()
        })
        .collect();
    for seed in &seeds {
        run(seed);
    }
    let seconds: u64 = std::env::var("SMOKE").ok().and_then(|s| s.parse().ok()).unwrap_or(5);
    let (mut rng, began, mut count) = (Rng(0x9e3779b97f4a7c15), std::time::Instant::now(), 0u64);
    while began.elapsed().as_secs() < seconds {
        let mut input = seeds[rng.below(seeds.len())].clone();
        for _ in 0..1 + rng.below(5) {
            let at = rng.below(input.len() + 1);
            match rng.below(6) {
                0 => input.insert(at, rng.below(256) as u8),
                1 if at < input.len() => {
                    input.remove(at);
                }
                2 if at < input.len() => input[at] = rng.below(256) as u8,
                3 => {
                    let word = words[rng.below(words.len())].clone();
                    input.splice(at..at, word);
                }
                4 => {
                    let other = &seeds[rng.below(seeds.len())];
                    let from = rng.below(other.len() + 1);
                    let to = from + rng.below(other.len() - from + 1);
                    let piece = other[from..to].to_vec();
                    input.splice(at..at, piece);
                }
                _ => {
                    let to = at + rng.below(input.len() - at + 1);
                    input.drain(at..to);
                }
            }
        }
        let result = std::panic::catch_unwind(|| run(&input));
        if result.is_err() {
            panic!("{target}: {:?}", String::from_utf8_lossy(&input));
        }
        count += 1;
    }
    println!("{target}: {count} inputs");
}
#[test]
fn transactions() {
    smoke("transaction", transaction::run)
}
#[test]
fn x_matrix_() {
    smoke("x_matrix", x_matrix::run)
}
#[test]
fn multipart_() {
    smoke("multipart", multipart::run)
}
#[test]
fn join_answers() {
    smoke("join_answer", join_answer::run)
}
#[test]
fn key_documents() {
    smoke("key_document", key_document::run)
}
