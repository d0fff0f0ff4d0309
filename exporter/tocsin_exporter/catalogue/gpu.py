"""GPUs: DCGM's names, units and labels for what NVML can say, and `gpu_*` where DCGM has no name.

DCGM's counters lack `_total` and its units are MiB, mJ, MHz and percent: kept, because NVIDIA's
dashboard 12239 and people's rules know them so.
"""

from tocsin_exporter.catalogue.table import Row, Table, counter, gauge

DCGM_LABELS = (
    *("gpu", "UUID", "pci_bus_id", "device", "modelName"),
    *("GPU_I_PROFILE", "GPU_I_ID", "DCGM_FI_DRIVER_VERSION"),
)
_GPU = ("gpu", "UUID")


def _dcgm_gauge(name: str, help: str, unit: str = "") -> Row:
    return gauge(f"DCGM_FI_{name}", help, unit, *DCGM_LABELS)


def _dcgm_counter(name: str, help: str, unit: str = "") -> Row:
    return counter(f"DCGM_FI_{name}", help, unit, *DCGM_LABELS)


_STATE = (
    _dcgm_gauge("DEV_SM_CLOCK", "SM clock frequency (in MHz).", "MHz"),
    _dcgm_gauge("DEV_MEM_CLOCK", "Memory clock frequency (in MHz).", "MHz"),
    _dcgm_gauge("DEV_GPU_TEMP", "GPU temperature (in C).", "celsius"),
    _dcgm_gauge("DEV_MEMORY_TEMP", "Memory temperature (in C).", "celsius"),
    _dcgm_gauge("DEV_POWER_USAGE", "Power draw (in W).", "watts"),
    _dcgm_gauge("DEV_POWER_MGMT_LIMIT", "Power limit that was set (in W).", "watts"),
    _dcgm_gauge("DEV_ENFORCED_POWER_LIMIT",
                "Power limit in force after all limiters (in W).", "watts"),
    _dcgm_counter("DEV_TOTAL_ENERGY_CONSUMPTION",
                  "Total energy consumption since boot (in mJ).", "mJ"),
    _dcgm_gauge("DEV_GPU_UTIL", "GPU utilization (in %).", "percent"),
    _dcgm_gauge("DEV_MEM_COPY_UTIL",
                "Share of time the memory was being read or written (in %); not memory usage.",
                "percent"),
    _dcgm_gauge("DEV_ENC_UTIL", "Encoder utilization (in %).", "percent"),
    _dcgm_gauge("DEV_DEC_UTIL", "Decoder utilization (in %).", "percent"),
    _dcgm_gauge("DEV_CLOCKS_EVENT_REASONS", "Bit mask of the reasons that hold the clocks down."),
)  # fmt: skip

_MEMORY = (
    _dcgm_gauge("DEV_FB_TOTAL", "Framebuffer memory in total (in MiB).", "MiB"),
    _dcgm_gauge("DEV_FB_FREE", "Framebuffer memory free (in MiB).", "MiB"),
    _dcgm_gauge("DEV_FB_USED", "Framebuffer memory used (in MiB).", "MiB"),
    _dcgm_gauge("DEV_FB_RESERVED", "Framebuffer memory reserved by the driver (in MiB).", "MiB"),
    _dcgm_gauge("DEV_FB_USED_PERCENT",
                "Framebuffer memory used, over total less reserved (0 to 1).", "ratio"),
)  # fmt: skip

_ERRORS = (
    _dcgm_gauge("DEV_XID_ERRORS", "Value of the last XID error encountered."),
    _dcgm_counter("DEV_PCIE_REPLAY_COUNTER", "Total number of PCIe retries."),
    _dcgm_counter("DEV_ECC_SBE_VOL_TOTAL",
                  "Total number of single-bit volatile ECC errors."),
    _dcgm_counter("DEV_ECC_DBE_VOL_TOTAL",
                  "Total number of double-bit volatile ECC errors."),
    _dcgm_counter("DEV_ECC_SBE_AGG_TOTAL",
                  "Total number of single-bit persistent ECC errors."),
    _dcgm_counter("DEV_ECC_DBE_AGG_TOTAL",
                  "Total number of double-bit persistent ECC errors."),
    _dcgm_counter("DEV_UNCORRECTABLE_REMAPPED_ROWS",
                  "Number of remapped rows for uncorrectable errors"),
    _dcgm_counter("DEV_CORRECTABLE_REMAPPED_ROWS",
                  "Number of remapped rows for correctable errors"),
    _dcgm_gauge("DEV_ROW_REMAP_FAILURE", "Whether remapping of rows has failed"),
    _dcgm_gauge("DEV_ROW_REMAP_PENDING", "Whether rows wait for a reset to be remapped."),
)  # fmt: skip

_VIOLATIONS = tuple(
    _dcgm_counter(f"DEV_{name}_VIOLATION", f"Throttling duration due to {why} (in ns).", "ns")
    for name, why in (
        ("POWER", "power constraints"),
        ("THERMAL", "thermal constraints"),
        ("SYNC_BOOST", "sync-boost constraints"),
        ("BOARD_LIMIT", "board limit constraints"),
        ("LOW_UTIL", "low utilization"),
        ("RELIABILITY", "reliability constraints"),
    )
)

_ADDED = (
    gauge("gpu_info", "What the GPU is; always 1.", "", *_GPU, "modelName", "driver_version",
          "cuda_version", "vbios_version", "serial", "compute_cap"),
    gauge("gpu_devices", "Number of GPUs that answer."),
    gauge("gpu_devices_expected", "Number of GPUs that are configured, or the most ever counted."),
    gauge("gpu_memory_used_ratio",
          "Memory used, over total less what the driver reserves (0 to 1).", "ratio", *_GPU),
    counter("gpu_xid_errors_total", "XID errors; the agent counts on after a restart.",
            "", *_GPU, "xid"),
    gauge("gpu_xid_last_timestamp_seconds",
          "When the XID error was last seen, in seconds since 1970.", "seconds", *_GPU, "xid"),
    gauge("gpu_throttle_active", "Whether the reason holds the clocks down now.",
          "", *_GPU, "reason"),
    gauge("gpu_performance_state", "Performance state, 0 (fastest) to 15.", "", *_GPU),
    gauge("gpu_process_memory_bytes", "GPU memory of a process.", "bytes", *_GPU, "pid"),
)  # fmt: skip

GPU = Table((*_STATE, *_MEMORY, *_ERRORS, *_VIOLATIONS, *_ADDED))
