//! The `search` section of the configuration.

use runtime::config::{ByteSize, Span};

runtime::config_section! {
    /// Searching messages.
    pub struct SearchConfig {
        /// Whether messages can be searched. Their words are then kept in `search/` in `data_dir`.
        pub enabled: bool = true;
        /// Memory for adding to the index, used only while there is something to add: 15MiB to 1GiB. More makes
        /// building the whole index quicker.
        pub index_memory: ByteSize = ByteSize::mib(16);
        /// How long what is sent is gathered before it is added to the index, after which it is found. It takes
        /// longer if the disk is slow. With `0s` nothing is gathered and nobody spares the disk.
        pub commit_interval: Span = Span::seconds(1);
    }
}

/// What the index needs at least, and can use at most.
const MEMORY: (u64, u64) = (15 * 1024 * 1024, 1024 * 1024 * 1024);

impl SearchConfig {
    /// What is wrong with the values: a key, and why.
    ///
    /// # Errors
    /// The key and the reason.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let memory = self.index_memory.bytes();
        if memory < MEMORY.0 || memory > MEMORY.1 {
            return Err(("search.index_memory", "must be from 15MiB to 1GiB".to_owned()));
        }
        Ok(())
    }

    /// The memory for adding, in bytes.
    pub(crate) fn writer_bytes(&self) -> usize {
        let bytes = self.index_memory.bytes().clamp(MEMORY.0, MEMORY.1);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}
