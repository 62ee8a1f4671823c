//! Settings that change while the server runs.

use std::sync::Arc;

use parking_lot::RwLock;

/// Settings as they are now; clones share them.
#[derive(Clone, Debug)]
pub struct Live<T>(Arc<RwLock<Arc<T>>>);

impl<T> Live<T> {
    /// Begins with these.
    pub fn new(settings: T) -> Live<T> {
        Live(Arc::new(RwLock::new(Arc::new(settings))))
    }

    /// The settings now. Whoever holds them keeps them as they are.
    pub fn get(&self) -> Arc<T> {
        self.0.read().clone()
    }

    /// Replaces them for everybody.
    pub fn replace(&self, settings: T) {
        *self.0.write() = Arc::new(settings);
    }
}
