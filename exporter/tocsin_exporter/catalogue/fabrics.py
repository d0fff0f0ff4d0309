"""Fabrics and filesystems that count by themselves: as in `host.py`, node_exporter's own words."""

from tocsin_exporter.catalogue.table import Table, alike

_INFINIBAND = (
    *alike("gauge", "device board_id firmware_version hca_type", {
        "node_infiniband_info":
            "Non-numeric data from /sys/class/infiniband/<device>, value is always 1.",
    }),
    *alike("gauge", "device port", {
        "node_infiniband_physical_state_id":
            "Physical state of the InfiniBand port (0: no change, 1: sleep, 2: polling, "
            "3: disable, 4: shift, 5: link up, 6: link error recover, 7: phytest)",
        "node_infiniband_rate_bytes_per_second": "Maximum signal transfer rate",
        "node_infiniband_state_id":
            "State of the InfiniBand port (0: no change, 1: down, 2: init, 3: armed, 4: "
            "active, 5: act defer)",
    }),
    *alike("counter", "device port", {
        "node_infiniband_legacy_multicast_packets_received_total":
            "Number of multicast packets received",
        "node_infiniband_legacy_multicast_packets_transmitted_total":
            "Number of multicast packets transmitted",
        "node_infiniband_legacy_data_received_bytes_total":
            "Number of data octets received on all links",
        "node_infiniband_legacy_packets_received_total":
            "Number of data packets received on all links",
        "node_infiniband_legacy_unicast_packets_received_total":
            "Number of unicast packets received",
        "node_infiniband_legacy_unicast_packets_transmitted_total":
            "Number of unicast packets transmitted",
        "node_infiniband_legacy_data_transmitted_bytes_total":
            "Number of data octets transmitted on all links",
        "node_infiniband_legacy_packets_transmitted_total":
            "Number of data packets received on all links",
        "node_infiniband_excessive_buffer_overrun_errors_total":
            "Number of times that OverrunErrors consecutive flow control update periods "
            "occurred, each having at least one overrun error.",
        "node_infiniband_link_downed_total":
            "Number of times the link failed to recover from an error state and went down",
        "node_infiniband_link_error_recovery_total":
            "Number of times the link successfully recovered from an error state",
        "node_infiniband_local_link_integrity_errors_total":
            "Number of times that the count of local physical errors exceeded the "
            "threshold specified by LocalPhyErrors.",
        "node_infiniband_multicast_packets_received_total":
            "Number of multicast packets received (including errors)",
        "node_infiniband_multicast_packets_transmitted_total":
            "Number of multicast packets transmitted (including errors)",
        "node_infiniband_port_constraint_errors_received_total":
            "Number of packets received on the switch physical port that are discarded",
        "node_infiniband_port_constraint_errors_transmitted_total":
            "Number of packets not transmitted from the switch physical port",
        "node_infiniband_port_data_received_bytes_total":
            "Number of data octets received on all links",
        "node_infiniband_port_data_transmitted_bytes_total":
            "Number of data octets transmitted on all links",
        "node_infiniband_port_discards_received_total":
            "Number of inbound packets discarded by the port because the port is down or "
            "congested",
        "node_infiniband_port_discards_transmitted_total":
            "Number of outbound packets discarded by the port because the port is down or "
            "congested",
        "node_infiniband_port_errors_received_total":
            "Number of packets containing an error that were received on this port",
        "node_infiniband_port_packets_received_total":
            "Number of packets received on all VLs by this port (including errors)",
        "node_infiniband_port_packets_transmitted_total":
            "Number of packets transmitted on all VLs from this port (including errors)",
        "node_infiniband_port_transmit_wait_total":
            "Number of ticks during which the port had data to transmit but no data was "
            "sent during the entire tick",
        "node_infiniband_unicast_packets_received_total":
            "Number of unicast packets received (including errors)",
        "node_infiniband_unicast_packets_transmitted_total":
            "Number of unicast packets transmitted (including errors)",
        "node_infiniband_port_receive_remote_physical_errors_total":
            "Number of packets marked with the EBP (End of Bad Packet) delimiter received "
            "on the port.",
        "node_infiniband_port_receive_switch_relay_errors_total":
            "Number of packets that could not be forwarded by the switch.",
        "node_infiniband_symbol_error_total":
            "Number of minor link errors detected on one or more physical lanes.",
        "node_infiniband_vl15_dropped_total":
            "Number of incoming VL15 packets dropped due to resource limitations.",
    }),
)  # fmt: skip

_XFS = (
    *alike("counter", "device", {
        "node_xfs_allocation_btree_compares_total":
            "Number of allocation B-tree compares for a filesystem.",
        "node_xfs_allocation_btree_lookups_total":
            "Number of allocation B-tree lookups for a filesystem.",
        "node_xfs_allocation_btree_records_deleted_total":
            "Number of allocation B-tree records deleted for a filesystem.",
        "node_xfs_allocation_btree_records_inserted_total":
            "Number of allocation B-tree records inserted for a filesystem.",
        "node_xfs_block_map_btree_compares_total":
            "Number of block map B-tree compares for a filesystem.",
        "node_xfs_block_map_btree_lookups_total":
            "Number of block map B-tree lookups for a filesystem.",
        "node_xfs_block_map_btree_records_deleted_total":
            "Number of block map B-tree records deleted for a filesystem.",
        "node_xfs_block_map_btree_records_inserted_total":
            "Number of block map B-tree records inserted for a filesystem.",
        "node_xfs_block_mapping_extent_list_compares_total":
            "Number of extent list compares for a filesystem.",
        "node_xfs_block_mapping_extent_list_deletions_total":
            "Number of extent list deletions for a filesystem.",
        "node_xfs_block_mapping_extent_list_insertions_total":
            "Number of extent list insertions for a filesystem.",
        "node_xfs_block_mapping_extent_list_lookups_total":
            "Number of extent list lookups for a filesystem.",
        "node_xfs_block_mapping_reads_total":
            "Number of block map for read operations for a filesystem.",
        "node_xfs_block_mapping_unmaps_total": "Number of block unmaps (deletes) for a filesystem.",
        "node_xfs_block_mapping_writes_total":
            "Number of block map for write operations for a filesystem.",
        "node_xfs_directory_operation_create_total":
            "Number of times a new directory entry was created for a filesystem.",
        "node_xfs_directory_operation_getdents_total":
            "Number of times the directory getdents operation was performed for a "
            "filesystem.",
        "node_xfs_directory_operation_lookup_total":
            "Number of file name directory lookups which miss the operating systems "
            "directory name lookup cache.",
        "node_xfs_directory_operation_remove_total":
            "Number of times an existing directory entry was created for a filesystem.",
        "node_xfs_extent_allocation_blocks_allocated_total":
            "Number of blocks allocated for a filesystem.",
        "node_xfs_extent_allocation_blocks_freed_total": "Number of blocks freed for a filesystem.",
        "node_xfs_extent_allocation_extents_allocated_total":
            "Number of extents allocated for a filesystem.",
        "node_xfs_extent_allocation_extents_freed_total":
            "Number of extents freed for a filesystem.",
        "node_xfs_inode_operation_attempts_total":
            "Number of times the OS looked for an XFS inode in the inode cache.",
        "node_xfs_inode_operation_attribute_changes_total":
            "Number of times the OS explicitly changed the attributes of an XFS inode.",
        "node_xfs_inode_operation_duplicates_total":
            "Number of times the OS tried to add a missing XFS inode to the inode cache, "
            "but found it had already been added by another process.",
        "node_xfs_inode_operation_found_total":
            "Number of times the OS looked for and found an XFS inode in the inode cache.",
        "node_xfs_inode_operation_missed_total":
            "Number of times the OS looked for an XFS inode in the cache, but did not "
            "find it.",
        "node_xfs_inode_operation_reclaims_total":
            "Number of times the OS reclaimed an XFS inode from the inode cache to free "
            "memory for another purpose.",
        "node_xfs_inode_operation_recycled_total":
            "Number of times the OS found an XFS inode in the cache, but could not use it "
            "as it was being recycled.",
        "node_xfs_read_calls_total":
            "Number of read(2) system calls made to files in a filesystem.",
        "node_xfs_vnode_active_total": "Number of vnodes not on free lists for a filesystem.",
        "node_xfs_vnode_allocate_total": "Number of times vn_alloc called for a filesystem.",
        "node_xfs_vnode_get_total": "Number of times vn_get called for a filesystem.",
        "node_xfs_vnode_hold_total": "Number of times vn_hold called for a filesystem.",
        "node_xfs_vnode_reclaim_total": "Number of times vn_reclaim called for a filesystem.",
        "node_xfs_vnode_release_total": "Number of times vn_rele called for a filesystem.",
        "node_xfs_vnode_remove_total": "Number of times vn_remove called for a filesystem.",
        "node_xfs_write_calls_total":
            "Number of write(2) system calls made to files in a filesystem.",
    }),
)  # fmt: skip

_FIBRE_CHANNEL = (
    *alike("counter", "fc_host", {
        "node_fibrechannel_dumped_frames_total": "Number of dumped frames",
        "node_fibrechannel_error_frames_total": "Number of errors in frames",
        "node_fibrechannel_fcp_packet_aborts_total": "Number of aborted packets",
        "node_fibrechannel_invalid_crc_total": "Invalid Cyclic Redundancy Check count",
        "node_fibrechannel_invalid_tx_words_total":
            "Number of invalid words transmitted by host port",
        "node_fibrechannel_link_failure_total": "Number of times the host port link has failed",
        "node_fibrechannel_loss_of_signal_total": "Number of times signal has been lost",
        "node_fibrechannel_loss_of_sync_total":
            "Number of failures on either bit or transmission word boundaries",
        "node_fibrechannel_nos_total":
            "Number Not_Operational Primitive Sequence received by host port",
        "node_fibrechannel_rx_frames_total": "Number of frames received",
        "node_fibrechannel_rx_words_total": "Number of words received by host port",
        "node_fibrechannel_seconds_since_last_reset_total":
            "Number of seconds since last host port reset",
        "node_fibrechannel_tx_frames_total": "Number of frames transmitted by host port",
        "node_fibrechannel_tx_words_total": "Number of words transmitted by host port",
    }),
    *alike("gauge", "fc_host speed port_state port_type port_id port_name fabric_name "
        "symbolic_name supported_classes supported_speeds dev_loss_tmo", {
        "node_fibrechannel_info":
            "Non-numeric data from /sys/class/fc_host/<host>, value is always 1.",
    }),
)  # fmt: skip

FABRICS = Table((*_INFINIBAND, *_XFS, *_FIBRE_CHANNEL))
