use super::*;
use crate::Profile;

const ROWS: Keyspace<Vec<u8>, Vec<u8>> = Keyspace::new("rows", Profile::Points);

fn prepare(batch: &mut Batch) -> Result<(), CommitError> {
    batch.prepare(&Directory::new(&[ROWS.info()]).expect("one name"))
}

#[test]
fn values_and_keys_up_to_their_limits_are_accepted() {
    let mut batch = Batch::new();
    batch.put(&ROWS, &vec![0; MAX_KEY_BYTES], &vec![0; MAX_VALUE_BYTES]);
    assert!(prepare(&mut batch).is_ok());
}

#[test]
fn anything_over_a_limit_is_refused() {
    let mut long_key = Batch::new();
    long_key.delete(&ROWS, &vec![0; MAX_KEY_BYTES + 1]);
    assert!(matches!(prepare(&mut long_key), Err(CommitError::TooLarge { what: "key", .. })));

    let mut long_value = Batch::new();
    long_value.put(&ROWS, &vec![], &vec![0; MAX_VALUE_BYTES + 1]);
    assert!(matches!(prepare(&mut long_value), Err(CommitError::TooLarge { what: "value", .. })));

    let mut many = Batch::new();
    for number in 0..=(MAX_BATCH_BYTES / MAX_VALUE_BYTES) {
        many.put(&ROWS, &number.to_be_bytes().to_vec(), &vec![0; MAX_VALUE_BYTES]);
    }
    assert!(many.size() > MAX_BATCH_BYTES);
    assert!(matches!(prepare(&mut many), Err(CommitError::TooLarge { what: "batch", .. })));
}

#[test]
fn undeclared_keyspaces_are_refused() {
    const OTHER: Keyspace<u8, ()> = Keyspace::new("other", Profile::Points);
    let mut batch = Batch::new();
    batch.expect_absent(&OTHER, &1);
    assert!(matches!(prepare(&mut batch), Err(CommitError::UnknownKeyspace("other"))));
}

#[test]
fn a_topic_is_kept_once() {
    let mut batch = Batch::new();
    batch.touch(Topic::new(1, 5)).touch(Topic::new(2, 5)).touch(Topic::new(1, 5));
    assert_eq!(batch.topics.as_slice(), [Topic::new(1, 5), Topic::new(2, 5)]);
    assert_eq!((batch.topics[1].kind(), batch.topics[1].id()), (2, 5));
}
