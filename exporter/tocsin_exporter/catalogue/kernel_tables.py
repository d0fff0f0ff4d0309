"""Tables of the kernel that are off as node_exporter has them, and what it says of processors.

As in `host.py`, node_exporter's own words.
"""

from tocsin_exporter.catalogue.table import OpenRow, Table, alike

_PROCESSORS = (
    *alike("gauge", "bug", {
        "node_cpu_bug_info":
            "The `bugs` field of CPU information from /proc/cpuinfo taken from the first core.",
    }),
    *alike("counter", "core package", {
        "node_cpu_core_throttles_total": "Number of times this CPU core has been throttled.",
    }),
    *alike("gauge", "flag", {
        "node_cpu_flag_info":
            "The `flags` field of CPU information from /proc/cpuinfo taken from the first core.",
    }),
    *alike("gauge",
        "package core cpu vendor family model model_name microcode stepping cachesize", {
        "node_cpu_info": "CPU information from /proc/cpuinfo.",
    }),
    *alike("gauge", "cpu", {
        "node_cpu_isolated":
            "Whether each core is isolated, information from /sys/devices/system/cpu/isolated.",
    }),
    *alike("counter", "package", {
        "node_cpu_package_throttles_total": "Number of times this CPU package has been throttled.",
    }),
    *alike("counter", "vector", {
        "node_softirqs_total": "Number of softirq calls.",
    }),
)  # fmt: skip

_MEMORY = (
    *alike("gauge", "node size zone", {
        "node_buddyinfo_blocks": "Count of free blocks according to size.",
    }),
    *alike("counter", "", {
        "node_ksmd_full_scans_total": "ksmd 'full_scans' file.",
    }),
    *alike("gauge", "", {
        "node_ksmd_merge_across_nodes": "ksmd 'merge_across_nodes' file.",
        "node_ksmd_pages_shared": "ksmd 'pages_shared' file.",
        "node_ksmd_pages_sharing": "ksmd 'pages_sharing' file.",
        "node_ksmd_pages_to_scan": "ksmd 'pages_to_scan' file.",
        "node_ksmd_pages_unshared": "ksmd 'pages_unshared' file.",
        "node_ksmd_pages_volatile": "ksmd 'pages_volatile' file.",
        "node_ksmd_run": "ksmd 'run' file.",
        "node_ksmd_sleep_seconds": "ksmd 'sleep_millisecs' file.",
    }),
    *alike("gauge", "slab", {
        "node_slabinfo_active_objects":
            "The number of objects that are currently active (i.e., in use).",
        "node_slabinfo_object_size_bytes": "The size of objects in this slab, in bytes.",
        "node_slabinfo_objects":
            "The total number of allocated objects (i.e., objects that are both in use and not in"
            " use).",
        "node_slabinfo_objects_per_slab": "The number of objects stored in each slab.",
        "node_slabinfo_pages_per_slab": "The number of pages allocated for each slab.",
    }),
)  # fmt: skip

_ZONES = (
    *alike("gauge", "node zone", {
        "node_zoneinfo_high_pages": "Zone watermark pages_high",
        "node_zoneinfo_low_pages": "Zone watermark pages_low",
        "node_zoneinfo_managed_pages": "Present pages managed by the buddy system",
        "node_zoneinfo_min_pages": "Zone watermark pages_min",
        "node_zoneinfo_nr_active_anon_pages": "Number of anonymous pages recently more used",
        "node_zoneinfo_nr_active_file_pages": "Number of active pages with file-backing",
        "node_zoneinfo_nr_anon_pages": "Number of anonymous pages currently used by the system",
        "node_zoneinfo_nr_anon_transparent_hugepages":
            "Number of anonymous transparent huge pages currently used by the system",
        "node_zoneinfo_nr_dirty_pages": "Number of dirty pages",
        "node_zoneinfo_nr_file_pages": "Number of file pages",
        "node_zoneinfo_nr_free_pages": "Total number of free pages in the zone",
        "node_zoneinfo_nr_inactive_anon_pages": "Number of anonymous pages recently less used",
        "node_zoneinfo_nr_inactive_file_pages": "Number of inactive pages with file-backing",
        "node_zoneinfo_nr_isolated_anon_pages": "Temporary isolated pages from anon lru",
        "node_zoneinfo_nr_isolated_file_pages": "Temporary isolated pages from file lru",
        "node_zoneinfo_nr_kernel_stacks": "Number of kernel stacks",
        "node_zoneinfo_nr_mapped_pages": "Number of mapped pages",
        "node_zoneinfo_nr_shmem_pages": "Number of shmem pages (included tmpfs/GEM pages)",
        "node_zoneinfo_nr_slab_reclaimable_pages": "Number of reclaimable slab pages",
        "node_zoneinfo_nr_slab_unreclaimable_pages": "Number of unreclaimable slab pages",
        "node_zoneinfo_nr_unevictable_pages": "Number of unevictable pages",
        "node_zoneinfo_nr_writeback_pages": "Number of writeback pages",
        "node_zoneinfo_nr_mlock_stack_pages": "mlock()ed pages found and moved off LRU",
        "node_zoneinfo_scanned_pages": "Pages scanned since last reclaim",
        "node_zoneinfo_present_pages": "Physical pages existing within the zone",
        "node_zoneinfo_spanned_pages": "Total pages spanned by the zone, including holes",
    }),
    *alike("counter", "node zone", {
        "node_zoneinfo_nr_dirtied_total": "Page dirtyings since bootup",
        "node_zoneinfo_nr_written_total": "Page writings since bootup",
        "node_zoneinfo_numa_foreign_total": "Was intended here, hit elsewhere",
        "node_zoneinfo_numa_hit_total": "Allocated in intended node",
        "node_zoneinfo_numa_interleave_total": "Interleaver preferred this zone",
        "node_zoneinfo_numa_local_total": "Allocation from local node",
        "node_zoneinfo_numa_miss_total": "Allocated in non intended node",
        "node_zoneinfo_numa_other_total": "Allocation from other node",
    }),
)  # fmt: skip

_PROCESSES = (
    *alike("gauge", "subsys_name", {
        "node_cgroups_cgroups": "Current cgroup number of the subsystem.",
        "node_cgroups_enabled": "Current cgroup number of the subsystem.",
    }),
    *alike("counter", "cpu devices info type", {
        "node_interrupts_total": "Interrupt details.",
    }),
    *alike("gauge", "", {
        "node_processes_max_processes": "Number of max PIDs limit",
        "node_processes_max_threads": "Limit of threads in the system",
        "node_processes_pids": "Number of PIDs",
        "node_processes_threads": "Allocated threads in system",
    }),
    *alike("gauge", "state", {
        "node_processes_state": "Number of processes in each state.",
    }),
    *alike("gauge", "thread_state", {
        "node_processes_threads_state": "Number of threads in each state.",
    }),
)  # fmt: skip

_SYSCTL = alike("gauge", "name value index", {"node_sysctl_info": "sysctl info"})

NUMA = OpenRow("node_memory_numa_{}", "gauge", "Memory information field {0}.")
NUMA_COUNTED = OpenRow("node_memory_numa_{}", "counter", "Memory information field {0}.")
PROTECTION = OpenRow("node_zoneinfo_protection_{}", "gauge", "Protection array {0}. field")
LNSTAT = OpenRow("node_lnstat_{}_total", "counter", "linux network cache stats")
# The parts are the name that a metric may have, and the one that the kernel gives.
SYSCTL = OpenRow("node_sysctl_{}", "untyped", "sysctl {1}")

KERNEL_TABLES = Table(
    (*_PROCESSORS, *_MEMORY, *_ZONES, *_PROCESSES, *_SYSCTL),
    (NUMA, NUMA_COUNTED, PROTECTION, LNSTAT, SYSCTL),
)
