//! The committer is stopped at every step; whatever it was doing is then there as a whole, or not at all.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use storage::{Batch, CommitError, FailAction, FailPoints, FailStep, Read, Stamped, StreamPos};

use crate::bed::{Bed, LOG, NAMES, named};

on_every_backend!(
    a_crash_at_any_step_leaves_whole_batches,
    a_failed_write_ends_the_store,
    observers_hear_only_of_written_batches
);

/// Does `action` at the `nth` time that `step` is reached.
fn act_at(step: FailStep, nth: usize, action: FailAction) -> FailPoints {
    let reached = AtomicUsize::new(0);
    FailPoints::new(move |at| {
        if at == step && reached.fetch_add(1, Ordering::Relaxed) + 1 == nth { action } else { FailAction::Continue }
    })
}

fn logged(number: u64) -> Batch {
    let mut batch = named(&number.to_string(), number);
    batch.put(&LOG, &(1, StreamPos::PENDING), &Stamped::pending(number.to_string()));
    batch
}

fn a_crash_at_any_step_leaves_whole_batches(bed: &Bed) {
    let mut base = 0;
    for step in FailStep::ALL {
        for nth in 1..=3 {
            let store = bed.open_with(act_at(step, nth, FailAction::Crash));
            assert_eq!(store.visible(), StreamPos(base));
            let mut confirmed = base;
            let error = loop {
                match store.commit_blocking(logged(confirmed + 1)) {
                    Ok(pos) => {
                        confirmed += 1;
                        assert_eq!(pos.0, confirmed);
                    }
                    Err(error) => break error,
                }
            };
            assert!(matches!(error, CommitError::Failed(_)), "the outcome is unknown: {error}");
            assert!(store.commit_blocking(Batch::new()).is_err());
            drop(store);

            let store = bed.open();
            let kept = store.visible().0;
            let expected = if step == FailStep::BeforeWrite { confirmed } else { confirmed + 1 };
            assert_eq!(kept, expected, "{step:?}, occurrence {nth}");
            for number in 1..=kept {
                assert_eq!(store.get(&NAMES, &number.to_string()).unwrap(), Some(number));
                let stamped = Stamped { pos: StreamPos(number), value: number.to_string() };
                assert_eq!(store.get(&LOG, &(1, StreamPos(number))).unwrap(), Some(stamped));
            }
            assert_eq!(store.scan(&LOG, &()).iter().count() as u64, kept);
            base = kept;
        }
    }
}

fn a_failed_write_ends_the_store(bed: &Bed) {
    let store = bed.open_with(act_at(FailStep::BeforeWrite, 2, FailAction::FailWrite));
    store.commit_blocking(logged(1)).unwrap();
    for _ in 0..3 {
        assert!(matches!(store.commit_blocking(logged(2)), Err(CommitError::Failed(_))));
    }
    assert_eq!(store.visible(), StreamPos(1));
    assert_eq!(store.get(&NAMES, &"1".to_owned()).unwrap(), Some(1), "reads go on");
    assert!(store.close().is_err());
    drop(store);
    let store = bed.open();
    assert_eq!(store.commit_blocking(logged(2)).unwrap(), StreamPos(2));
}

fn observers_hear_only_of_written_batches(bed: &Bed) {
    for (step, heard) in [(FailStep::BeforeWrite, 1), (FailStep::AfterWrite, 1), (FailStep::AfterPublish, 2)] {
        let store = bed.open_with(act_at(step, 2, FailAction::Crash));
        let count = Arc::new(AtomicUsize::new(0));
        let counter = count.clone();
        store.on_commit(Arc::new(move |group: &[storage::Committed]| {
            counter.fetch_add(group.len(), Ordering::Relaxed);
        }));
        store.commit_blocking(Batch::new()).unwrap();
        store.commit_blocking(Batch::new()).unwrap_err();
        assert_eq!(count.load(Ordering::Relaxed), heard, "{step:?}");
    }
}
