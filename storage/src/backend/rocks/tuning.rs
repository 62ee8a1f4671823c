//! Options of the database and of each profile.
//!
//! The whole idle server should stay below 50 MiB resident: one shared block cache, one shared budget for memtables,
//! and small arena blocks, because there are tens of column families and each one that is written holds a block.

use rust_rocksdb::{
    BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, DataBlockIndexType, LogLevel, Options,
};

use crate::Profile;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Options of the database as a whole. `write_buffer_bytes` bounds the memtables of all keyspaces together.
pub(super) fn database_options(write_buffer_bytes: usize) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_db_write_buffer_size(write_buffer_bytes);
    options.set_max_total_wal_size(64 * MIB as u64);
    options.set_max_background_jobs(2);
    options.set_max_open_files(512);
    // After a crash: everything up to the first torn record, which is what was acknowledged.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_avoid_unnecessary_blocking_io(true);
    options.set_bytes_per_sync(MIB as u64);
    options.set_wal_bytes_per_sync(MIB as u64);
    options.set_skip_stats_update_on_db_open(true);
    // An idle server should not wake up to write statistics nobody reads.
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(4 * MIB);
    options
}

struct Tuning {
    block_bytes: usize,
    bloom_bits: Option<f64>,
    hash_index_in_blocks: bool,
    upper_compression: DBCompressionType,
    memtable_bytes: usize,
}

/// The tuning table.
fn tuning(profile: Profile) -> Tuning {
    match profile {
        // Small blocks: a random read decompresses one row's neighbours only. Absent keys end at the filter.
        Profile::Points => Tuning {
            block_bytes: 4 * KIB,
            bloom_bits: Some(10.0),
            hash_index_in_blocks: true,
            upper_compression: DBCompressionType::Lz4,
            memtable_bytes: 8 * MIB,
        },
        // Large blocks: scans read neighbours anyway, and they compress better together.
        Profile::Log => Tuning {
            block_bytes: 16 * KIB,
            bloom_bits: Some(10.0),
            hash_index_in_blocks: false,
            upper_compression: DBCompressionType::Lz4,
            memtable_bytes: 8 * MIB,
        },
        // Read rarely and one at a time: smaller on disk rather than faster.
        Profile::Blobs => Tuning {
            block_bytes: 32 * KIB,
            bloom_bits: Some(10.0),
            hash_index_in_blocks: false,
            upper_compression: DBCompressionType::Zstd,
            memtable_bytes: 4 * MIB,
        },
    }
}

/// Options of the column family of a keyspace.
pub(super) fn keyspace_options(profile: Profile, cache: &Cache) -> Options {
    let tuning = tuning(profile);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(tuning.block_bytes);
    if let Some(bits) = tuning.bloom_bits {
        table.set_bloom_filter(bits, false);
    }
    if tuning.hash_index_in_blocks {
        table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    }
    table.set_format_version(6);
    // Index and filter blocks count against the cache budget, so memory stays bounded as the data grows.
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_pin_top_level_index_and_filter(true);
    table.set_optimize_filters_for_memory(true);

    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(tuning.upper_compression);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_write_buffer_size(tuning.memtable_bytes);
    // The default is 1 MiB: with tens of column families that alone would exhaust the shared memtable budget.
    options.set_arena_block_size(64 * KIB);
    options.set_max_write_buffer_number(3);
    options.set_target_file_size_base(32 * MIB as u64);
    options
}
