"""Containers: names, types and labels are cAdvisor's, so that its boards and rules work."""

from tocsin_exporter.catalogue.table import Table, alike

_CPU = (
    *alike("counter", "id name image", {
        "container_cpu_user_seconds_total": "Cumulative user cpu time consumed in seconds.",
        "container_cpu_system_seconds_total": "Cumulative system cpu time consumed in seconds.",
        "container_cpu_cfs_periods_total": "Number of elapsed enforcement period intervals.",
        "container_cpu_cfs_throttled_periods_total": "Number of throttled period intervals.",
        "container_cpu_cfs_throttled_seconds_total":
            "Total time duration the container has been throttled.",
    }),
    *alike("counter", "id name image cpu", {
        "container_cpu_usage_seconds_total": "Cumulative cpu time consumed in seconds.",
    }),
    *alike("gauge", "id name image", {
        "container_spec_cpu_period": "CPU period of the container.",
        "container_spec_cpu_quota": "CPU quota of the container.",
    }),
)  # fmt: skip

_MEMORY = (
    *alike("gauge", "id name image", {
        "container_memory_usage_bytes":
            "Current memory usage in bytes, including all memory regardless of when it was "
            "accessed",
        "container_memory_max_usage_bytes": "Maximum memory usage recorded in bytes",
        "container_memory_working_set_bytes": "Current working set in bytes.",
        "container_memory_rss": "Size of RSS in bytes.",
        "container_memory_cache": "Number of bytes of page cache memory.",
        "container_memory_mapped_file": "Size of memory mapped files in bytes.",
        "container_memory_swap": "Container swap usage in bytes.",
        "container_spec_memory_limit_bytes": "Memory limit for the container.",
    }),
    *alike("counter", "id name image", {
        "container_memory_failcnt": "Number of memory usage hits limits",
        "container_oom_events_total":
            "Count of out of memory events observed for the container",
    }),
    *alike("counter", "id name image failure_type scope", {
        "container_memory_failures_total": "Cumulative count of memory allocation failures.",
    }),
)  # fmt: skip

_DISKS = alike("counter", "id name image device", {
    "container_fs_reads_bytes_total": "Cumulative count of bytes read",
    "container_fs_reads_total": "Cumulative count of reads completed",
    "container_fs_writes_bytes_total": "Cumulative count of bytes written",
    "container_fs_writes_total": "Cumulative count of writes completed",
})  # fmt: skip

_PRESSURE = alike("counter", "id name image", {
    f"container_pressure_{of}_{kind}_seconds_total": f"Total time duration {who} due to {why}."
    for of, why in (
        ("cpu", "CPU congestion"),
        ("memory", "memory congestion"),
        ("io", "IO congestion"),
    )
    for kind, who in (
        ("waiting", "tasks in the container have waited"),
        ("stalled", "no tasks in the container could make progress"),
    )
})  # fmt: skip

_TASKS = alike("gauge", "id name image", {
    "container_processes": "Number of processes running inside the container.",
    "container_threads": "Number of threads running inside the container",
    "container_threads_max":
        "Maximum number of threads allowed inside the container, infinity if value is zero",
    "container_last_seen": "Last time a container was seen by the exporter",
})  # fmt: skip

CONTAINERS = Table((*_CPU, *_MEMORY, *_DISKS, *_PRESSURE, *_TASKS))
