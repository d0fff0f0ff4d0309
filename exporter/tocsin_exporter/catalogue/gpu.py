"""GPUs: DCGM's names, units and labels for what NVML can say, and `gpu_*` where DCGM has no name.

DCGM's counters lack `_total` and its units are MiB, mJ, MHz and percent: kept, because NVIDIA's
dashboard 12239 and people's rules know them so.
"""

from tocsin_exporter.catalogue.table import Row, Table, counter, gauge

DCGM_LABELS = (
    *("gpu", "UUID", "pci_bus_id", "device", "modelName"),
    *("GPU_I_PROFILE", "GPU_I_ID", "DCGM_FI_DRIVER_VERSION", "Hostname", "hostname"),
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
    _dcgm_counter("DEV_RETIRED_SBE", "Total number of retired pages due to single-bit errors."),
    _dcgm_counter("DEV_RETIRED_DBE", "Total number of retired pages due to double-bit errors."),
    _dcgm_counter("DEV_RETIRED_PENDING", "Total number of pages pending retirement."),
    *(
        _dcgm_counter(f"DEV_NVLINK_{name}_ERROR_COUNT_TOTAL", f"Total number of NVLink {what}.")
        for name, what in (
            ("CRC_FLIT", "flow-control CRC errors"),
            ("CRC_DATA", "data CRC errors"),
            ("REPLAY", "retries"),
            ("RECOVERY", "recovery errors"),
        )
    ),
    gauge("DCGM_EXP_XID_ERRORS_COUNT", "Count of XID errors within the window.", "",
          *DCGM_LABELS, "window_size_in_ms", "xid"),
    _dcgm_gauge("DEV_VGPU_LICENSE_STATUS", "vGPU License status"),
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

# By GPM on Hopper and later; the throughput of PCIe on others too.
_PROFILE = tuple(
    _dcgm_gauge(f"PROF_{name}", help, unit)
    for name, help, unit in (
        ("GR_ENGINE_ACTIVE", "Ratio of time the graphics engine is active.", "ratio"),
        ("SM_ACTIVE", "The ratio of cycles an SM has at least 1 warp assigned.", "ratio"),
        ("SM_OCCUPANCY", "The ratio of number of warps resident on an SM.", "ratio"),
        ("PIPE_TENSOR_ACTIVE", "Ratio of cycles the tensor (HMMA) pipe is active.", "ratio"),
        ("DRAM_ACTIVE",
         "Ratio of cycles the device memory interface is active sending or receiving data.",
         "ratio"),
        ("PIPE_FP64_ACTIVE", "Ratio of cycles the fp64 pipes are active.", "ratio"),
        ("PIPE_FP32_ACTIVE", "Ratio of cycles the fp32 pipes are active.", "ratio"),
        ("PIPE_FP16_ACTIVE", "Ratio of cycles the fp16 pipes are active.", "ratio"),
        ("PCIE_TX_BYTES", "Bytes a second sent over PCIe, by the last round.", ""),
        ("PCIE_RX_BYTES", "Bytes a second received over PCIe, by the last round.", ""),
        ("NVLINK_TX_BYTES", "Bytes a second sent over NVLink, by the last round.", ""),
        ("NVLINK_RX_BYTES", "Bytes a second received over NVLink, by the last round.", ""),
    )
)  # fmt: skip

_ADDED = (
    gauge("gpu_info", "What the GPU is; always 1.", "", *_GPU, "modelName", "driver_version",
          "cuda_version", "vbios_version", "serial", "compute_cap", "vendor"),
    gauge("gpu_devices", "Number of GPUs that answer.", "", "vendor"),
    gauge("gpu_devices_expected", "Number of GPUs that are configured, or the most ever counted.",
          "", "vendor"),
    gauge("gpu_memory_used_ratio",
          "Memory used, over total less what the driver reserves (0 to 1).", "ratio", *_GPU),
    counter("gpu_xid_errors_total", "XID errors; the agent counts on after a restart.",
            "", *_GPU, "xid"),
    gauge("gpu_xid_last_timestamp_seconds",
          "When the XID error was last seen, in seconds since 1970.", "seconds", *_GPU, "xid"),
    gauge("gpu_throttle_active", "Whether the reason holds the clocks down now.",
          "", *_GPU, "reason"),
    gauge("gpu_performance_state", "Performance state, 0 (fastest) to 15.", "", *_GPU),
    counter("gpu_throttle_seconds_total", "Time in which the reason held the clocks down.",
            "seconds", *_GPU, "reason"),
    gauge("gpu_recovery_action", "What the driver asks for: 0 nothing, 1 reset the GPU, "
          "2 reboot, 3 drain peer-to-peer traffic, 4 drain and reset.", "", *_GPU),
    gauge("gpu_fan_speed_ratio", "Speed that the fan is to have, over its highest (0 to 1).",
          "ratio", *_GPU, "fan"),
    gauge("gpu_pcie_link_generation", "Generation of the PCIe link now.", "", *_GPU),
    gauge("gpu_pcie_link_generation_max",
          "Generation of the PCIe link that GPU and slot allow.", "", *_GPU),
    gauge("gpu_pcie_link_width", "Lanes of the PCIe link now.", "", *_GPU),
    gauge("gpu_pcie_link_width_max", "Lanes of the PCIe link that GPU and slot allow.", "", *_GPU),
    counter("gpu_pcie_transmit_bytes_total", "Bytes sent over PCIe.", "bytes", *_GPU),
    counter("gpu_pcie_receive_bytes_total", "Bytes received over PCIe.", "bytes", *_GPU),
    gauge("gpu_nvlink_up", "Whether the link is active.", "", *_GPU, "link"),
    counter("gpu_nvlink_transmit_bytes_total", "Bytes of data sent over the link.", "bytes",
            *_GPU, "link"),
    counter("gpu_nvlink_receive_bytes_total", "Bytes of data received over the link.", "bytes",
            *_GPU, "link"),
    counter("gpu_nvlink_errors_total", "Errors of the link: replay, recovery or crc.", "",
            *_GPU, "link", "type"),
    gauge("gpu_fabric_state", "Whether the GPU has joined the NVLink fabric of its machine: "
          "1 not yet, 2 in progress, 3 done.", "", *_GPU),
    gauge("gpu_fabric_unhealthy", "Whether the fabric says that this is wrong.", "",
          *_GPU, "reason"),
    gauge("gpu_process_memory_bytes", "GPU memory of a process.", "bytes",
          *_GPU, "pid", "groupname"),
    gauge("gpu_process_sm_utilization_ratio", "Share of time in which the process used the GPU's "
          "SMs (0 to 1), by the last round.", "ratio", *_GPU, "pid", "groupname"),
)  # fmt: skip

# Where DCGM's names are not: AMD and Intel.
_OTHERS = (
    gauge("gpu_utilization_ratio", "Share of time the GPU was busy (0 to 1).", "ratio", *_GPU),
    gauge("gpu_memory_used_bytes", "Memory used.", "bytes", *_GPU),
    gauge("gpu_memory_total_bytes", "Memory in total.", "bytes", *_GPU),
    gauge("gpu_temperature_celsius", "Temperature at the sensor.", "celsius", *_GPU, "sensor"),
    gauge("gpu_power_watts", "Power draw.", "watts", *_GPU),
    counter("gpu_energy_joules_total", "Energy used.", "joules", *_GPU),
    gauge("gpu_clock_hertz", "Frequency of the clock now.", "hertz", *_GPU, "clock"),
    counter("gpu_idle_seconds_total", "Time in which the part (GT) of the GPU was off.",
            "seconds", *_GPU, "gt"),
)  # fmt: skip

GPU = Table((*_STATE, *_MEMORY, *_ERRORS, *_VIOLATIONS, *_PROFILE, *_ADDED, *_OTHERS))
