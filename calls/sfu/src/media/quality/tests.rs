use super::*;

fn graded(loss: f32, rtt_ms: u64) -> Grade {
    grade(score(&Measured { loss, rtt: Duration::from_millis(rtt_ms), ..Measured::default() }))
}

#[test]
fn grades_follow_loss_and_delay() {
    assert_eq!(graded(0.0, 20), Grade::Excellent);
    assert_eq!(graded(0.01, 120), Grade::Excellent);
    assert_eq!(graded(0.10, 60), Grade::Good);
    assert_eq!(graded(0.30, 60), Grade::Poor);
    assert_eq!(graded(0.0, 1200), Grade::Poor);
}

#[test]
fn worse_is_never_better() {
    let at = |percent: i32| score(&Measured { loss: percent as f32 / 100.0, ..Measured::default() });
    assert!((0..100).all(|percent| at(percent) >= at(percent + 1)));
    assert!(score(&Measured { shortfall: 1.0, ..Measured::default() }) < score(&Measured::default()));
    assert!(score(&Measured { loss: 9.0, rtt: Duration::from_secs(99), ..Measured::default() }) >= 1.0);
}
