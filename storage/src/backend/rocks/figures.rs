//! What RocksDB tells of itself.

use super::Rocks;
use crate::StoreFigures;

impl Rocks {
    pub(crate) fn figures(&self) -> StoreFigures {
        // What a property is not known of counts as nothing: figures must not fail.
        let of_database = |name: &str| self.db.property_int_value(name).ok().flatten().unwrap_or(0);
        let of_all = |name: &str| {
            let each = self.families.iter().map(|family| self.db.property_int_value_cf(family, name));
            each.map(|value| value.ok().flatten().unwrap_or(0)).sum()
        };
        let mut levels = Vec::new();
        let files = self.db.live_files().unwrap_or_default();
        for file in &files {
            let level = usize::try_from(file.level).unwrap_or(0);
            if levels.len() <= level {
                levels.resize(level + 1, 0);
            }
            if let Some(bytes) = levels.get_mut(level) {
                *bytes += file.size as u64;
            }
        }
        StoreFigures {
            write_buffers: of_all("rocksdb.cur-size-all-mem-tables"),
            // One cache is shared by all families.
            block_cache: of_database("rocksdb.block-cache-usage"),
            table_readers: of_all("rocksdb.estimate-table-readers-mem"),
            levels,
            files: files.len() as u64,
            pending_compaction: of_all("rocksdb.estimate-pending-compaction-bytes"),
            running_compactions: of_database("rocksdb.num-running-compactions"),
            running_flushes: of_database("rocksdb.num-running-flushes"),
            writes_stopped: of_database("rocksdb.is-write-stopped") > 0,
            slowed_to: of_database("rocksdb.actual-delayed-write-rate"),
        }
    }
}
