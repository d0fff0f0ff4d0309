"""NFS: what its client and its server count, and what it counts of each mount.

As in `host.py`, node_exporter's own words.
"""

from tocsin_exporter.catalogue.table import Table, alike

_CLIENT = (
    *alike("counter", "", {
        "node_nfs_connections_total": "Total number of NFSd TCP connections.",
        "node_nfs_rpc_authentication_refreshes_total":
            "Number of RPC authentication refreshes performed.",
        "node_nfs_rpc_retransmissions_total": "Number of RPC transmissions performed.",
        "node_nfs_rpcs_total": "Total number of RPCs performed.",
    }),
    *alike("counter", "protocol", {
        "node_nfs_packets_total": "Total NFSd network packets (sent+received) by protocol type.",
    }),
    *alike("counter", "method proto", {
        "node_nfs_requests_total": "Number of NFS procedures invoked.",
    }),
)  # fmt: skip

_SERVER = (
    *alike("counter", "", {
        "node_nfsd_connections_total": "Total number of NFSd TCP connections.",
        "node_nfsd_disk_bytes_read_total": "Total NFSd bytes read.",
        "node_nfsd_disk_bytes_written_total": "Total NFSd bytes written.",
        "node_nfsd_file_handles_stale_total": "Total number of NFSd stale file handles",
        "node_nfsd_read_ahead_cache_not_found_total":
            "Total number of NFSd read ahead cache not found.",
        "node_nfsd_reply_cache_hits_total":
            "Total number of NFSd Reply Cache hits (client lost server response).",
        "node_nfsd_reply_cache_misses_total":
            "Total number of NFSd Reply Cache an operation that requires caching (idempotent).",
        "node_nfsd_reply_cache_nocache_total":
            "Total number of NFSd Reply Cache non-idempotent operations (rename/delete/…).",
        "node_nfsd_server_rpcs_total": "Total number of NFSd RPCs.",
    }),
    *alike("counter", "proto", {
        "node_nfsd_packets_total": "Total NFSd network packets (sent+received) by protocol type.",
    }),
    *alike("gauge", "", {
        "node_nfsd_read_ahead_cache_size_blocks": "How large the read ahead cache is in blocks.",
        "node_nfsd_server_threads": "Total number of NFSd kernel threads that are running.",
    }),
    *alike("counter", "method proto", {
        "node_nfsd_requests_total": "Total number NFSd Requests by method and protocol.",
    }),
    *alike("counter", "error", {
        "node_nfsd_rpc_errors_total": "Total number of NFSd RPC errors by error type.",
    }),
)  # fmt: skip

_MOUNTS = (
    *alike("counter", "export mountaddr protocol", {
        "node_mountstats_nfs_age_seconds_total": "The age of the NFS mount in seconds.",
        "node_mountstats_nfs_direct_read_bytes_total":
            "Number of bytes read using the read() syscall in O_DIRECT mode.",
        "node_mountstats_nfs_direct_write_bytes_total":
            "Number of bytes written using the write() syscall in O_DIRECT mode.",
        "node_mountstats_nfs_event_attribute_invalidate_total":
            "Number of times cached inode attributes are invalidated.",
        "node_mountstats_nfs_event_data_invalidate_total":
            "Number of times an inode cache is cleared.",
        "node_mountstats_nfs_event_dnode_revalidate_total":
            "Number of times cached dentry nodes are re-validated from the server.",
        "node_mountstats_nfs_event_inode_revalidate_total":
            "Number of times cached inode attributes are re-validated from the server.",
        "node_mountstats_nfs_event_jukebox_delay_total":
            "Number of times the NFS server indicated EJUKEBOX; retrieving data from offline "
            "storage.",
        "node_mountstats_nfs_event_pnfs_read_total": "Number of NFS v4.1+ pNFS reads.",
        "node_mountstats_nfs_event_pnfs_write_total": "Number of NFS v4.1+ pNFS writes.",
        "node_mountstats_nfs_event_short_read_total":
            "Number of times the NFS server gave less data than expected while reading.",
        "node_mountstats_nfs_event_short_write_total":
            "Number of times the NFS server wrote less data than expected while writing.",
        "node_mountstats_nfs_event_silly_rename_total":
            "Number of times a file was removed while still open by another process.",
        "node_mountstats_nfs_event_truncation_total": "Number of times files have been truncated.",
        "node_mountstats_nfs_event_vfs_access_total":
            "Number of times permissions have been checked.",
        "node_mountstats_nfs_event_vfs_file_release_total":
            "Number of times files have been closed and released.",
        "node_mountstats_nfs_event_vfs_flush_total":
            "Number of pending writes that have been forcefully flushed to the server.",
        "node_mountstats_nfs_event_vfs_fsync_total":
            "Number of times fsync() has been called on directories and files.",
        "node_mountstats_nfs_event_vfs_getdents_total":
            "Number of times directory entries have been read with getdents().",
        "node_mountstats_nfs_event_vfs_lock_total":
            "Number of times locking has been attempted on a file.",
        "node_mountstats_nfs_event_vfs_lookup_total":
            "Number of times a directory lookup has occurred.",
        "node_mountstats_nfs_event_vfs_open_total":
            "Number of times cached inode attributes are invalidated.",
        "node_mountstats_nfs_event_vfs_read_page_total":
            "Number of pages read directly via mmap()'d files.",
        "node_mountstats_nfs_event_vfs_read_pages_total":
            "Number of times a group of pages have been read.",
        "node_mountstats_nfs_event_vfs_setattr_total":
            "Number of times directory entries have been read with getdents().",
        "node_mountstats_nfs_event_vfs_update_page_total":
            "Number of updates (and potential writes) to pages.",
        "node_mountstats_nfs_event_vfs_write_page_total":
            "Number of pages written directly via mmap()'d files.",
        "node_mountstats_nfs_event_vfs_write_pages_total":
            "Number of times a group of pages have been written.",
        "node_mountstats_nfs_event_write_extension_total":
            "Number of times a file has been grown due to writes beyond its existing end.",
        "node_mountstats_nfs_read_bytes_total": "Number of bytes read using the read() syscall.",
        "node_mountstats_nfs_read_pages_total": "Number of pages read directly via mmap()'d files.",
        "node_mountstats_nfs_total_read_bytes_total":
            "Number of bytes read from the NFS server, in total.",
        "node_mountstats_nfs_total_write_bytes_total":
            "Number of bytes written to the NFS server, in total.",
        "node_mountstats_nfs_transport_backlog_queue_total":
            "Total number of items added to the RPC backlog queue.",
        "node_mountstats_nfs_transport_bad_transaction_ids_total":
            "Number of times the NFS server sent a response with a transaction ID unknown to this"
            " client.",
        "node_mountstats_nfs_transport_bind_total":
            "Number of times the client has had to establish a connection from scratch to the NFS"
            " server.",
        "node_mountstats_nfs_transport_connect_total":
            "Number of times the client has made a TCP connection to the NFS server.",
        "node_mountstats_nfs_transport_pending_queue_total":
            "Total number of items added to the RPC transmission pending queue.",
        "node_mountstats_nfs_transport_receives_total":
            "Number of RPC responses for this mount received from the NFS server.",
        "node_mountstats_nfs_transport_sending_queue_total":
            "Total number of items added to the RPC transmission sending queue.",
        "node_mountstats_nfs_transport_sends_total":
            "Number of RPC requests for this mount sent to the NFS server.",
        "node_mountstats_nfs_write_bytes_total":
            "Number of bytes written using the write() syscall.",
        "node_mountstats_nfs_write_pages_total":
            "Number of pages written directly via mmap()'d files.",
    }),
    *alike("counter", "export mountaddr operation protocol", {
        "node_mountstats_nfs_operations_major_timeouts_total":
            "Number of times a request has had a major timeout for a given operation.",
        "node_mountstats_nfs_operations_queue_time_seconds_total":
            "Duration all requests spent queued for transmission for a given operation before "
            "they were sent, in seconds.",
        "node_mountstats_nfs_operations_received_bytes_total":
            "Number of bytes received for a given operation, including RPC headers and payload.",
        "node_mountstats_nfs_operations_request_time_seconds_total":
            "Duration all requests took from when a request was enqueued to when it was "
            "completely handled for a given operation, in seconds.",
        "node_mountstats_nfs_operations_requests_total":
            "Number of requests performed for a given operation.",
        "node_mountstats_nfs_operations_response_time_seconds_total":
            "Duration all requests took to get a reply back after a request for a given operation"
            " was transmitted, in seconds.",
        "node_mountstats_nfs_operations_sent_bytes_total":
            "Number of bytes sent for a given operation, including RPC headers and payload.",
        "node_mountstats_nfs_operations_transmissions_total":
            "Number of times an actual RPC request has been transmitted for a given operation.",
    }),
    *alike("gauge", "export mountaddr protocol", {
        "node_mountstats_nfs_transport_idle_time_seconds":
            "Duration since the NFS mount last saw any RPC traffic, in seconds.",
        "node_mountstats_nfs_transport_maximum_rpc_slots":
            "Maximum number of simultaneously active RPC requests ever used.",
    }),
)  # fmt: skip

NFS = Table((*_CLIENT, *_SERVER, *_MOUNTS))
