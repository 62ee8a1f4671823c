use super::*;

#[test]
fn seeded_sequences_repeat_and_differ_by_seed() {
    let (a, b, c) = (Random::seeded(1), Random::seeded(1), Random::seeded(2));
    assert_eq!(a.token(40), b.token(40));
    assert_ne!(a.token(40), c.token(40));
    let first = a.u64();
    assert_ne!(first, a.clone().u64(), "clones share one sequence");
}

#[test]
fn tokens_have_the_asked_length_and_only_letters_and_digits() {
    for len in [0, 1, 43, 64, 200] {
        let token = Random::system().token(len);
        assert_eq!(token.len(), len);
        assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{token}");
    }
}

#[test]
fn below_stays_below_and_reaches_every_value() {
    let random = Random::seeded(9);
    let mut seen = [false; 7];
    for _ in 0..500 {
        seen[random.below(7) as usize] = true;
    }
    assert_eq!(seen, [true; 7]);
    assert_eq!(random.below(0), 0);
}

#[test]
fn fill_covers_lengths_that_are_no_multiple_of_eight() {
    let mut bytes = [0u8; 13];
    Random::seeded(3).fill(&mut bytes);
    assert_ne!(bytes[8..], [0; 5]);
}
