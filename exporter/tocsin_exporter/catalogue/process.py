"""Watched groups of processes: process-exporter's names and types, and one of ours."""

from tocsin_exporter.catalogue.table import Table, counter, gauge

PROCESS = Table(
    (
        gauge("namedprocess_namegroup_num_procs",
              "Number of processes in this group; 0 when all have gone.", "", "groupname"),
        counter("namedprocess_namegroup_cpu_seconds_total", "CPU time used, in seconds.",
                "seconds", "groupname", "mode"),
        gauge("namedprocess_namegroup_memory_bytes", "Number of bytes of memory in use.",
              "bytes", "groupname", "memtype"),
        gauge("namedprocess_namegroup_open_filedesc",
              "Number of open file descriptors of this group.", "", "groupname"),
        gauge("namedprocess_namegroup_worst_fd_ratio",
              "The worst (closest to 1) ratio of open to allowed file descriptors among all "
              "processes of this group.", "", "groupname"),
        gauge("namedprocess_namegroup_oldest_start_time_seconds",
              "Start of the oldest process of this group, in seconds since 1970.",
              "seconds", "groupname"),
        gauge("namedprocess_namegroup_num_threads", "Number of threads.", "", "groupname"),
        gauge("namedprocess_namegroup_states",
              "Number of processes that are Running, Sleeping, Waiting, Zombie or Other.",
              "", "groupname", "state"),
        counter("namedprocess_namegroup_read_bytes_total",
                "Number of bytes read from storage by this group.", "bytes", "groupname"),
        counter("namedprocess_namegroup_write_bytes_total",
                "Number of bytes written to storage by this group.", "bytes", "groupname"),
        counter("namedprocess_namegroup_major_page_faults_total", "Major page faults.",
                "", "groupname"),
        counter("namedprocess_namegroup_minor_page_faults_total", "Minor page faults.",
                "", "groupname"),
        counter("namedprocess_namegroup_context_switches_total", "Context switches.",
                "", "groupname", "ctxswitchtype"),
        gauge("tocsin_process_group_last_seen_timestamp_seconds",
              "When this group last had a process, in seconds since 1970; absent if it never had.",
              "seconds", "groupname"),
    )
)  # fmt: skip
