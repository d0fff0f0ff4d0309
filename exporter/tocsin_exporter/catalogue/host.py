"""The host: names, types and help texts are node_exporter's, word for word.

Dashboards and rules of node_exporter must work unchanged, so nothing here is improved: what is
untyped there stays untyped. The peer is node_exporter 1.5.0, which the tests compare with.
"""

from tocsin_exporter.catalogue.table import OpenRow, Table, counter, gauge

_DISK = (
    counter("node_disk_reads_completed_total", "The total number of reads completed successfully.",
            "", "device"),
    counter("node_disk_reads_merged_total", "The total number of reads merged.", "", "device"),
    counter("node_disk_read_bytes_total", "The total number of bytes read successfully.",
            "bytes", "device"),
    counter("node_disk_read_time_seconds_total",
            "The total number of seconds spent by all reads.", "seconds", "device"),
    counter("node_disk_writes_completed_total",
            "The total number of writes completed successfully.", "", "device"),
    counter("node_disk_writes_merged_total", "The number of writes merged.", "", "device"),
    counter("node_disk_written_bytes_total",
            "The total number of bytes written successfully.", "bytes", "device"),
    counter("node_disk_write_time_seconds_total",
            "This is the total number of seconds spent by all writes.", "seconds", "device"),
    gauge("node_disk_io_now", "The number of I/Os currently in progress.", "", "device"),
    counter("node_disk_io_time_seconds_total", "Total seconds spent doing I/Os.",
            "seconds", "device"),
    counter("node_disk_io_time_weighted_seconds_total",
            "The weighted # of seconds spent doing I/Os.", "seconds", "device"),
    counter("node_disk_discards_completed_total",
            "The total number of discards completed successfully.", "", "device"),
    counter("node_disk_discards_merged_total", "The total number of discards merged.",
            "", "device"),
    counter("node_disk_discarded_sectors_total",
            "The total number of sectors discarded successfully.", "", "device"),
    counter("node_disk_discard_time_seconds_total",
            "This is the total number of seconds spent by all discards.", "seconds", "device"),
    counter("node_disk_flush_requests_total",
            "The total number of flush requests completed successfully", "", "device"),
    counter("node_disk_flush_requests_time_seconds_total",
            "This is the total number of seconds spent by all flush requests.",
            "seconds", "device"),
    gauge("node_disk_info", "Info of /sys/block/<block_device>.", "",
          "device", "major", "minor", "path", "wwn", "model", "serial", "revision"),
    gauge("node_disk_ata_rotation_rate_rpm",
          "ATA disk rotation rate in RPMs (0 for SSDs).", "", "device"),
    gauge("node_disk_ata_write_cache", "ATA disk has a write cache.", "", "device"),
    gauge("node_disk_ata_write_cache_enabled",
          "ATA disk has its write cache enabled.", "", "device"),
    gauge("node_disk_device_mapper_info", "Info about disk device mapper.", "",
          "device", "name", "uuid", "vg_name", "lv_name", "lv_layer"),
    gauge("node_disk_filesystem_info", "Info about disk filesystem.", "",
          "device", "type", "usage", "uuid", "version"),
)  # fmt: skip

_MOUNT = ("device", "mountpoint", "fstype")
_FILESYSTEM = (
    gauge("node_filesystem_size_bytes", "Filesystem size in bytes.", "bytes", *_MOUNT),
    gauge("node_filesystem_free_bytes", "Filesystem free space in bytes.", "bytes", *_MOUNT),
    gauge("node_filesystem_avail_bytes",
          "Filesystem space available to non-root users in bytes.", "bytes", *_MOUNT),
    gauge("node_filesystem_files", "Filesystem total file nodes.", "", *_MOUNT),
    gauge("node_filesystem_files_free", "Filesystem total free file nodes.", "", *_MOUNT),
    gauge("node_filesystem_readonly", "Filesystem read-only status.", "", *_MOUNT),
    gauge("node_filesystem_device_error",
          "Whether an error occurred while getting statistics for the given device.",
          "", *_MOUNT),
)  # fmt: skip

_PRESSURE = (
    counter("node_pressure_cpu_waiting_seconds_total",
            "Total time in seconds that processes have waited for CPU time", "seconds"),
    counter("node_pressure_io_waiting_seconds_total",
            "Total time in seconds that processes have waited due to IO congestion", "seconds"),
    counter("node_pressure_io_stalled_seconds_total",
            "Total time in seconds no process could make progress due to IO congestion",
            "seconds"),
    counter("node_pressure_memory_waiting_seconds_total",
            "Total time in seconds that processes have waited for memory", "seconds"),
    counter("node_pressure_memory_stalled_seconds_total",
            "Total time in seconds no process could make progress due to memory congestion",
            "seconds"),
    counter("node_pressure_irq_stalled_seconds_total",
            "Total time in seconds no process could make progress due to IRQ congestion",
            "seconds"),
)  # fmt: skip

_KERNEL = (
    counter("node_cpu_seconds_total", "Seconds the CPUs spent in each mode.",
            "seconds", "cpu", "mode"),
    counter("node_cpu_guest_seconds_total",
            "Seconds the CPUs spent in guests (VMs) for each mode.", "seconds", "cpu", "mode"),
    gauge("node_load1", "1m load average."),
    gauge("node_load5", "5m load average."),
    gauge("node_load15", "15m load average."),
    counter("node_intr_total", "Total number of interrupts serviced."),
    counter("node_context_switches_total", "Total number of context switches."),
    counter("node_forks_total", "Total number of forks."),
    gauge("node_boot_time_seconds", "Node boot time, in unixtime.", "seconds"),
    gauge("node_procs_running", "Number of processes in runnable state."),
    gauge("node_procs_blocked", "Number of processes blocked waiting for I/O to complete."),
    gauge("node_filefd_allocated", "File descriptor statistics: allocated."),
    gauge("node_filefd_maximum", "File descriptor statistics: maximum."),
    gauge("node_uname_info",
          "Labeled system information as provided by the uname system call.", "",
          "sysname", "release", "version", "machine", "nodename", "domainname"),
    gauge("node_time_seconds", "System time in seconds since epoch (1970).", "seconds"),
    gauge("node_time_zone_offset_seconds", "System time zone offset in seconds.",
          "seconds", "time_zone"),
    gauge("node_time_clocksource_available_info",
          "Available clocksources read from '/sys/devices/system/clocksource'.", "",
          "device", "clocksource"),
    gauge("node_time_clocksource_current_info",
          "Current clocksource read from '/sys/devices/system/clocksource'.", "",
          "device", "clocksource"),
    gauge("node_exporter_build_info",
          "A metric with a constant '1' value labeled by version, revision, branch, goversion from "
          "which node_exporter was built, and the goos and goarch for the build.", "",
          "version", "branch"),
    gauge("node_scrape_collector_duration_seconds",
          "node_exporter: Duration of a collector scrape.", "seconds", "collector"),
    gauge("node_scrape_collector_success",
          "node_exporter: Whether a collector succeeded.", "", "collector"),
)  # fmt: skip

MEMORY = OpenRow("node_memory_{}", "gauge", "Memory information field {}.")
VMSTAT = OpenRow("node_vmstat_{}", "untyped", "/proc/vmstat information field {}.")

HOST = Table((*_KERNEL, *_FILESYSTEM, *_DISK, *_PRESSURE), (MEMORY, VMSTAT))
