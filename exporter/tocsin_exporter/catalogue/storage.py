"""Filesystems, caches and tapes that count for themselves: ZFS, btrfs, bcache, DRBD, SCSI tapes.

As in `host.py`, node_exporter's own words.
"""

from tocsin_exporter.catalogue.table import OpenRow, Table, alike

_BTRFS = (
    *alike("gauge", "block_group_type mode uuid", {
        "node_btrfs_allocation_ratio": "Data allocation ratio for a layout/data type",
        "node_btrfs_size_bytes": "Amount of space allocated for a layout/data type",
        "node_btrfs_used_bytes": "Amount of used space by a layout/data type",
    }),
    *alike("counter", "uuid type device btrfs_dev_uuid", {
        "node_btrfs_device_errors_total": "Errors reported for the device",
    }),
    *alike("gauge", "uuid device btrfs_dev_uuid", {
        "node_btrfs_device_size_bytes": "Size of a device that is part of the filesystem.",
        "node_btrfs_device_unused_bytes":
            "Unused bytes unused on a device that is part of the filesystem.",
    }),
    *alike("gauge", "uuid", {
        "node_btrfs_global_rsv_size_bytes": "Size of global reserve.",
    }),
    *alike("gauge", "label uuid", {
        "node_btrfs_info": "Filesystem information",
    }),
    *alike("gauge", "block_group_type uuid", {
        "node_btrfs_reserved_bytes": "Amount of space reserved for a data type",
    }),
)  # fmt: skip

_BCACHE = (
    *alike("gauge", "uuid", {
        "node_bcache_active_journal_entries":
            "Number of journal entries that are newer than the index.",
        "node_bcache_average_key_size_sectors": "Average data per key in the btree (sectors).",
        "node_bcache_btree_cache_size_bytes": "Amount of memory currently used by the btree cache.",
        "node_bcache_btree_nodes": "Total nodes in the btree.",
        "node_bcache_btree_read_average_duration_seconds": "Average btree read duration.",
        "node_bcache_cache_available_percent":
            "Percentage of cache device without dirty data, usable for writeback (may contain "
            "clean cached data).",
        "node_bcache_congested": "Congestion.",
        "node_bcache_root_usage_percent":
            "Percentage of the root btree node in use (tree depth increases if too high).",
        "node_bcache_tree_depth": "Depth of the btree.",
    }),
    *alike("counter", "backing_device uuid", {
        "node_bcache_bypassed_bytes_total":
            "Amount of IO (both reads and writes) that has bypassed the cache.",
        "node_bcache_cache_bypass_hits_total": "Hits for IO intended to skip the cache.",
        "node_bcache_cache_bypass_misses_total": "Misses for IO intended to skip the cache.",
        "node_bcache_cache_hits_total": "Hits counted per individual IO as bcache sees them.",
        "node_bcache_cache_miss_collisions_total":
            "Instances where data insertion from cache miss raced with write (data already "
            "present).",
        "node_bcache_cache_misses_total": "Misses counted per individual IO as bcache sees them.",
        "node_bcache_cache_readaheads_total": "Count of times readahead occurred.",
    }),
    *alike("counter", "uuid", {
        "node_bcache_cache_read_races_total":
            "Counts instances where while data was being read from the cache, the bucket was "
            "reused and invalidated - i.e. where the pointer was stale after the read completed.",
    }),
    *alike("gauge", "backing_device uuid", {
        "node_bcache_dirty_data_bytes":
            "Amount of dirty data for this backing device in the cache.",
        "node_bcache_dirty_target_bytes":
            "Current dirty data target threshold for this backing device in bytes.",
        "node_bcache_writeback_change": "Last writeback rate change step for this backing device.",
        "node_bcache_writeback_rate": "Current writeback rate for this backing device in bytes.",
        "node_bcache_writeback_rate_integral_term":
            "Current result of integral controller, part of writeback rate",
        "node_bcache_writeback_rate_proportional_term":
            "Current result of proportional controller, part of writeback rate",
    }),
    *alike("gauge", "cache_device uuid", {
        "node_bcache_io_errors":
            "Number of errors that have occurred, decayed by io_error_halflife.",
        "node_bcache_priority_stats_metadata_percent": "Bcache's metadata overhead.",
        "node_bcache_priority_stats_unused_percent":
            "The percentage of the cache that doesn't contain any data.",
    }),
    *alike("counter", "cache_device uuid", {
        "node_bcache_metadata_written_bytes_total":
            "Sum of all non data writes (btree writes and all other metadata).",
        "node_bcache_written_bytes_total": "Sum of all data that has been written to the cache.",
    }),
)  # fmt: skip

_DRBD = (
    *alike("counter", "device", {
        "node_drbd_activitylog_writes_total":
            "Number of updates of the activity log area of the meta data.",
        "node_drbd_bitmap_writes_total": "Number of updates of the bitmap area of the meta data.",
        "node_drbd_disk_read_bytes_total": "Net data read from local hard disk; in bytes.",
        "node_drbd_disk_written_bytes_total": "Net data written on local hard disk; in bytes.",
        "node_drbd_network_received_bytes_total": "Total number of bytes received via the network.",
        "node_drbd_network_sent_bytes_total": "Total number of bytes sent via the network.",
    }),
    *alike("gauge", "device", {
        "node_drbd_application_pending":
            "Number of block I/O requests forwarded to DRBD, but not yet answered by DRBD.",
        "node_drbd_connected": "Whether DRBD is connected to the peer.",
        "node_drbd_epochs": "Number of Epochs currently on the fly.",
        "node_drbd_local_pending": "Number of open requests to the local I/O sub-system.",
        "node_drbd_out_of_sync_bytes": "Amount of data known to be out of sync; in bytes.",
        "node_drbd_remote_pending":
            "Number of requests sent to the peer, but that have not yet been answered by the "
            "latter.",
        "node_drbd_remote_unacknowledged":
            "Number of requests received by the peer via the network connection, but that have "
            "not yet been answered.",
    }),
    *alike("gauge", "device node", {
        "node_drbd_disk_state_is_up_to_date": "Whether the disk of the node is up to date.",
        "node_drbd_node_role_is_primary": "Whether the role of the node is in the primary state.",
    }),
)  # fmt: skip

_TAPES = (
    *alike("gauge", "device", {
        "node_tape_io_now": "The number of I/Os currently outstanding to this device.",
    }),
    *alike("counter", "device", {
        "node_tape_io_others_total":
            "The number of I/Os issued to the tape drive other than read or write commands. The "
            "time taken to complete these commands uses the following calculation "
            "io_time_seconds_total-read_time_seconds_total-write_time_seconds_total",
        "node_tape_io_time_seconds_total":
            "The amount of time spent waiting for all I/O to complete (including read and write)."
            " This includes tape movement commands such as seeking between file or set marks and "
            "implicit tape movement such as when rewind on close tape devices are used.",
        "node_tape_read_bytes_total": "The number of bytes read from the tape drive.",
        "node_tape_read_time_seconds_total":
            "The amount of time spent waiting for read requests to complete.",
        "node_tape_reads_completed_total": "The number of read requests issued to the tape drive.",
        "node_tape_residual_total":
            "The number of times during a read or write we found the residual amount to be non-"
            "zero. This should mean that a program is issuing a read larger thean the block size "
            "on tape. For write not all data made it to tape.",
        "node_tape_write_time_seconds_total":
            "The amount of time spent waiting for write requests to complete.",
        "node_tape_writes_completed_total":
            "The number of write requests issued to the tape drive.",
        "node_tape_written_bytes_total": "The number of bytes written to the tape drive.",
    }),
)  # fmt: skip

_POOLS = alike("gauge", "zpool state", {"node_zfs_zpool_state": "kstat.zfs.misc.state"})

# The parts are the rest of the name and what ZFS calls it: all of these carry the kernel's words.
ZFS = OpenRow("node_zfs_{}", "untyped", "kstat.zfs.misc.{1}")

STORAGE = Table((*_BTRFS, *_BCACHE, *_DRBD, *_TAPES, *_POOLS), (ZFS,))
