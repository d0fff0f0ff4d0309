"""What the kernel counts of itself, its clock, its network tables and the operating system.

As in `host.py`: node_exporter's names, types and help texts, word for word.
"""

from tocsin_exporter.catalogue.table import Table, alike

_TIMEX = (
    *alike("counter", "", {
        "node_timex_pps_calibration_total": "Pulse per second count of calibration intervals.",
        "node_timex_pps_error_total": "Pulse per second count of calibration errors.",
        "node_timex_pps_jitter_total": "Pulse per second count of jitter limit exceeded events.",
        "node_timex_pps_stability_exceeded_total":
            "Pulse per second count of stability limit exceeded events.",
    }),
    *alike("gauge", "", {
        "node_timex_estimated_error_seconds": "Estimated error in seconds.",
        "node_timex_frequency_adjustment_ratio": "Local clock frequency adjustment.",
        "node_timex_loop_time_constant": "Phase-locked loop time constant.",
        "node_timex_maxerror_seconds": "Maximum error in seconds.",
        "node_timex_offset_seconds": "Time offset in between local system and reference clock.",
        "node_timex_pps_frequency_hertz": "Pulse per second frequency.",
        "node_timex_pps_jitter_seconds": "Pulse per second jitter.",
        "node_timex_pps_shift_seconds": "Pulse per second interval duration.",
        "node_timex_pps_stability_hertz":
            "Pulse per second stability, average of recent frequency changes.",
        "node_timex_status": "Value of the status array bits.",
        "node_timex_sync_status": "Is clock synchronized to a reliable server (1 = yes, 0 = no).",
        "node_timex_tai_offset_seconds": "International Atomic Time (TAI) offset.",
        "node_timex_tick_seconds": "Seconds between clock ticks.",
    }),
)  # fmt: skip

_NETWORK = (
    *alike("gauge", "", {
        "node_nf_conntrack_entries":
            "Number of currently allocated flow entries for connection tracking.",
        "node_nf_conntrack_entries_limit": "Maximum size of connection tracking table.",
        "node_nf_conntrack_stat_drop": "Number of packets dropped due to conntrack failure.",
        "node_nf_conntrack_stat_early_drop":
            "Number of dropped conntrack entries to make room for new ones, if maximum "
            "table size was reached.",
        "node_nf_conntrack_stat_found": "Number of searched entries which were successful.",
        "node_nf_conntrack_stat_ignore":
            "Number of packets seen which are already connected to a conntrack entry.",
        "node_nf_conntrack_stat_insert": "Number of entries inserted into the list.",
        "node_nf_conntrack_stat_insert_failed":
            "Number of entries for which list insertion was attempted but failed.",
        "node_nf_conntrack_stat_invalid": "Number of packets seen which can not be tracked.",
        "node_nf_conntrack_stat_search_restart":
            "Number of conntrack table lookups which had to be restarted due to hashtable "
            "resizes.",
    }),
    *alike("counter", "cpu", {
        "node_softnet_dropped_total": "Number of dropped packets",
        "node_softnet_processed_total": "Number of processed packets",
        "node_softnet_times_squeezed_total": "Number of times processing packets ran out of quota",
    }),
    *alike("gauge", "device", {
        "node_arp_entries": "ARP entries by device",
    }),
    *alike("gauge", "queue ip", {
        "node_udp_queues": "Number of allocated memory in the kernel for UDP datagrams in bytes.",
    }),
    *alike("gauge", "state", {
        "node_tcp_connection_states": "Number of connection states.",
    }),
)  # fmt: skip

_SYSTEM = (
    *alike("gauge", "", {
        "node_entropy_available_bits": "Bits of available entropy.",
        "node_entropy_pool_size_bits": "Bits of entropy pool.",
    }),
    *alike("counter", "cpu", {
        "node_schedstat_running_seconds_total": "Number of seconds CPU spent running a process.",
        "node_schedstat_timeslices_total": "Number of timeslices executed by CPU.",
        "node_schedstat_waiting_seconds_total":
            "Number of seconds spent by processing waiting for this CPU.",
    }),
    *alike("gauge", "", {
        "node_selinux_enabled": "SELinux is enabled, 1 is true, 0 is false",
        "node_selinux_config_mode": "Configured SELinux enforcement mode",
        "node_selinux_current_mode": "Current SELinux enforcement mode",
    }),
    *alike("gauge", "build_id id id_like image_id image_version name pretty_name "
        "variant variant_id version version_codename version_id", {
        "node_os_info":
            "A metric with a constant '1' value labeled by build_id, id, id_like, "
            "image_id, image_version, name, pretty_name, variant, variant_id, version, "
            "version_codename, version_id.",
    }),
    *alike("gauge", "id id_like name", {
        "node_os_version": "Metric containing the major.minor part of the OS version.",
    }),
    *alike("gauge", "file", {
        "node_textfile_mtime_seconds": "Unixtime mtime of textfiles successfully read.",
    }),
    *alike("gauge", "", {
        "node_textfile_scrape_error":
            "1 if there was an error opening or reading a file, 0 otherwise",
    }),
)  # fmt: skip

KERNEL = Table((*_TIMEX, *_NETWORK, *_SYSTEM))
