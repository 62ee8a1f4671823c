//! What a batch touches, so that waiting readers wake.

use rooms::{TOPIC_ACCOUNTS, TOPIC_DEVICE, TOPIC_DEVICE_LISTS, TOPIC_PROFILES, TOPIC_PUSHERS, TOPIC_USER, UserNid};
use storage::Topic;

use crate::DeviceNid;

/// Account data, profile, own devices and cross-signing of one user.
pub fn user_topic(user: UserNid) -> Topic {
    Topic::new(TOPIC_USER, user.0)
}

/// To-device messages and key counts of one device.
pub fn device_topic(device: DeviceNid) -> Topic {
    Topic::new(TOPIC_DEVICE, device.0)
}

/// Any change of any user's device list: what the federation sender waits for.
pub fn device_lists_topic() -> Topic {
    Topic::new(TOPIC_DEVICE_LISTS, 0)
}

/// Any change of any user's profile: what clients that share a room with them wait for.
pub(crate) fn profiles_topic() -> Topic {
    Topic::new(TOPIC_PROFILES, 0)
}

/// The account of one user, and its last use: what lists of accounts are kept by.
pub(crate) fn account_topic(user: UserNid) -> Topic {
    Topic::new(TOPIC_ACCOUNTS, user.0)
}

/// The pushers of one user: what push delivery waits for.
pub(crate) fn pushers_topic(user: UserNid) -> Topic {
    Topic::new(TOPIC_PUSHERS, user.0)
}
