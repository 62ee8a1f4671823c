use super::*;

fn window(loudness: &mut Loudness, level: u8, packets: u32) -> Option<(f32, bool)> {
    for _ in 0..packets {
        loudness.add(level);
    }
    loudness.end_window()
}

#[test]
fn a_voice_is_told_once_until_it_changes() {
    let mut loudness = Loudness::default();
    let (level, active) = window(&mut loudness, 20, 20).unwrap();
    assert!(active && level > 0.1 && level < 1.0);
    // The level settles, then nothing is told any more.
    let told = (0..20).filter(|_| window(&mut loudness, 20, 20).is_some()).count();
    assert!(told <= 4, "{told}");
    assert_eq!(window(&mut loudness, 127, 20), Some((0.0, false)));
    assert_eq!(window(&mut loudness, 127, 20), None);
}

#[test]
fn a_click_is_not_a_voice() {
    let mut loudness = Loudness::default();
    assert_eq!(window(&mut loudness, 5, 2), None);
    assert!(!loudness.active);
}

#[test]
fn louder_is_higher() {
    let level = |dbov| {
        let mut loudness = Loudness::default();
        window(&mut loudness, dbov, 20);
        loudness.level
    };
    assert!(level(5) > level(20) && level(20) > level(35));
}
