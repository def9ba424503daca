//! How RocksDB is set, and why.

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompactionStyle,
    DBCompressionType, DBRecoveryMode, LogLevel, SliceTransform,
};

use crate::keys::{Family, action_of};

const MIB: usize = 1024 * 1024;

/// What an operator may trade against another: memory, open files, cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of the one cache that blocks, indexes and filters share.
    pub block_cache_bytes: usize,
    /// Bytes of writes that are held in memory, over all families, before they are flushed.
    pub write_buffer_bytes: usize,
    /// Files that RocksDB keeps open; the rest of the process needs some as well.
    pub open_files_max: u16,
    /// Threads that flush and compact.
    pub background_jobs: u8,
}

impl Default for Options {
    /// For two cores, 512 MiB resident, and the 1,024 open files that a shell allows.
    fn default() -> Self {
        Self {
            block_cache_bytes: 64 * MIB,
            write_buffer_bytes: 96 * MIB,
            open_files_max: 512,
            background_jobs: 2,
        }
    }
}

/// The settings of the whole database.
pub(crate) fn database(options: &Options, create: bool) -> rocksdb::Options {
    let mut db = rocksdb::Options::default();
    db.create_if_missing(create);
    db.create_missing_column_families(create);
    // The usual mode opened a synced WAL with one flipped bit and silently lost what followed; this
    // one refuses, and still forgives the torn record that a crash leaves at the very end.
    db.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    db.set_paranoid_checks(true);
    // All families are flushed together, so that a lost WAL takes the database back to one earlier
    // commit, which the anchor sees, and never to several at once, which nobody would.
    db.set_atomic_flush(true);
    // A WAL that was closed and is missing, or shorter than it was, is refused.
    db.set_track_and_verify_wals_in_manifest(true);
    db.set_db_write_buffer_size(options.write_buffer_bytes);
    // The write buffer sets the pace of flushes; this is for many tiny commits, whose framing in
    // the WAL outweighs what they hold in memory.
    db.set_max_total_wal_size(u64::try_from(options.write_buffer_bytes).unwrap_or(u64::MAX));
    db.set_max_open_files(i32::from(options.open_files_max));
    db.set_max_background_jobs(i32::from(options.background_jobs.max(2)));
    // Background writes reach the disk as they come, and don't hold up the next synced commit.
    db.set_bytes_per_sync(MIB as u64);
    db.set_max_manifest_file_size(16 * MIB);
    db.set_log_level(LogLevel::Warn);
    db.set_max_log_file_size(4 * MIB);
    db.set_keep_log_file_num(4);
    db.set_stats_dump_period_sec(0);
    db.set_stats_persist_period_sec(0);
    db
}

/// Every family with its settings.
pub(crate) fn families(options: &Options) -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(options.block_cache_bytes);
    let of =
        |family: Family| ColumnFamilyDescriptor::new(family.name(), self::family(family, &cache));
    Family::ALL.into_iter().map(of).collect()
}

/// One family with its settings and a cache of its own.
pub(crate) fn one(family: Family, options: &Options) -> rocksdb::Options {
    self::family(family, &Cache::new_lru_cache(options.block_cache_bytes))
}

fn family(family: Family, cache: &Cache) -> rocksdb::Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    // Indexes and filters live in the cache, so that memory doesn't grow with the log.
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // In parts: whole, those of a large file are larger than the cache's shards, and would be read
    // and thrown away again at every question.
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_format_version(5);
    let mut cf = rocksdb::Options::default();
    cf.set_write_buffer_size(64 * MIB);
    cf.set_max_write_buffer_number(4);
    // More files in level 0 than by default before writes are slowed: the log's families hardly
    // overlap, so that many of them cost a reader little.
    cf.set_level_zero_slowdown_writes_trigger(24);
    cf.set_level_zero_stop_writes_trigger(48);
    cf.set_compression_options(-14, 1, 0, 0);
    match family {
        // Large values in the order of their keys: they are compressed when they are flushed, and
        // move from level to level without being written again.
        Family::Payloads | Family::Batches | Family::Blobs => {
            table.set_block_size(16 * 1024);
            cf.set_compression_type(DBCompressionType::Zstd);
        }
        // Hashes don't compress; one tile is one block.
        Family::Tiles => {
            table.set_block_size(8 * 1024);
            cf.set_compression_type(DBCompressionType::None);
        }
        // Small rows: flushed as they are, and compressed when the first compaction joins the
        // small files of several flushes.
        Family::Entries
        | Family::Heads
        | Family::Streams
        | Family::ByStream
        | Family::ByPolicy
        | Family::ByField
        | Family::Meta => {
            table.set_block_size(8 * 1024);
            cf.set_compression_per_level(&[DBCompressionType::None, DBCompressionType::Zstd]);
        }
        // Action ids are random and every new verdict asks for its action: without filters each
        // such question would read a block of every file.
        Family::ByAction => {
            table.set_block_size(8 * 1024);
            table.set_bloom_filter(10.0, false);
            table.set_whole_key_filtering(false);
            cf.set_compression_per_level(&[DBCompressionType::None, DBCompressionType::Zstd]);
            cf.set_prefix_extractor(SliceTransform::create("countersign.action", action_of, None));
            cf.set_memtable_prefix_bloom_ratio(0.1);
        }
    }
    if matches!(
        family,
        Family::Entries | Family::Heads | Family::ByStream | Family::Tiles | Family::Batches
    ) {
        // Rows come in the order of their keys, a small file a flush. Levels would keep every one of
        // these files for ever, and run out of open files; this joins them into large ones.
        cf.set_compaction_style(DBCompactionStyle::Universal);
    }
    cf.set_block_based_table_factory(&table);
    cf
}
