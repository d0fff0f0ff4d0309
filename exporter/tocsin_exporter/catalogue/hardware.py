"""Sensors, power, processors and boards, from /sys: as in `host.py`, node_exporter's own words."""

from tocsin_exporter.catalogue.table import OpenRow, Table, alike

_PROCESSORS = (
    *alike("gauge", "cpu", {
        "node_cpu_scaling_frequency_hertz": "Current scaled CPU thread frequency in hertz.",
        "node_cpu_scaling_frequency_max_hertz": "Maximum scaled CPU thread frequency in hertz.",
        "node_cpu_scaling_frequency_min_hertz": "Minimum scaled CPU thread frequency in hertz.",
        "node_cpu_frequency_hertz": "Current cpu thread frequency in hertz.",
        "node_cpu_frequency_min_hertz": "Minimum cpu thread frequency in hertz.",
        "node_cpu_frequency_max_hertz": "Maximum cpu thread frequency in hertz.",
    }),
    *alike("gauge", "zone type", {
        "node_thermal_zone_temp": "Zone temperature in Celsius",
    }),
    *alike("gauge", "name type", {
        "node_cooling_device_cur_state": "Current throttle state of the cooling device",
        "node_cooling_device_max_state": "Maximum throttle state of the cooling device",
    }),
)  # fmt: skip

_BOARDS = (
    *alike("gauge", "bios_date bios_release bios_vendor bios_version "
        "board_asset_tag board_name board_serial board_vendor board_version "
        "chassis_asset_tag chassis_serial chassis_vendor chassis_version product_family "
        "product_name product_serial product_sku product_uuid product_version "
        "system_vendor", {
        "node_dmi_info":
            "A metric with a constant '1' value labeled by bios_date, bios_release, "
            "bios_vendor, bios_version, board_asset_tag, board_name, board_serial, "
            "board_vendor, board_version, chassis_asset_tag, chassis_serial, "
            "chassis_vendor, chassis_version, product_family, product_name, "
            "product_serial, product_sku, product_uuid, product_version, system_vendor if "
            "provided by DMI.",
    }),
    *alike("gauge", "device firmware_revision model serial state", {
        "node_nvme_info": "Non-numeric data from /sys/class/nvme/<device>, value is always 1.",
    }),
    *alike("counter", "controller", {
        "node_edac_correctable_errors_total": "Total correctable memory errors.",
        "node_edac_uncorrectable_errors_total": "Total uncorrectable memory errors.",
    }),
    *alike("counter", "controller csrow", {
        "node_edac_csrow_correctable_errors_total":
            "Total correctable memory errors for this csrow.",
        "node_edac_csrow_uncorrectable_errors_total":
            "Total uncorrectable memory errors for this csrow.",
    }),
    *alike("gauge", "master", {
        "node_bonding_active": "Number of active slaves per bonding interface.",
        "node_bonding_slaves": "Number of configured slaves per bonding interface.",
    }),
)  # fmt: skip

_SENSORS = (
    *alike("gauge", "chip chip_name", {
        "node_hwmon_chip_names": "Annotation metric for human-readable chip names",
    }),
    *alike("gauge", "chip sensor label", {
        "node_hwmon_sensor_label": "Label for given chip and sensor",
    }),
    *alike("gauge", "chip sensor", {
        "node_hwmon_beep_enabled": "Hardware beep enabled",
        "node_hwmon_voltage_regulator_version": "Hardware voltage regulator",
        "node_hwmon_update_interval_seconds": "Hardware monitor update interval",
    }),
)  # fmt: skip

MD_STATES = ("active", "inactive", "recovering", "resync", "check")
_RAID = (
    *alike("gauge", "device", {
        "node_md_disks_required": "Total number of disks of device.",
        "node_md_blocks": "Total number of blocks on device.",
        "node_md_blocks_synced": "Number of blocks synced on device.",
    }),
    *alike("gauge", "device state", {
        "node_md_disks": "Number of active/failed/spare disks of device.",
        "node_md_state": "Indicates the state of md-device.",
    }),
)  # fmt: skip

_POWER = alike("gauge",
    "power_supply capacity_level charge_type health manufacturer model_name serial_number status "
    "technology type usb_type scope", {
        "node_power_supply_info": "info of /sys/class/power_supply/<power_supply>.",
})  # fmt: skip

_ENERGY = alike("counter", "index path rapl_zone", {
    "node_rapl_joules_total": "Current RAPL value in joules",
})  # fmt: skip

_GRAPHICS = (
    *alike("gauge", "card memory_vendor power_performance_level unique_id vendor", {
        "node_drm_card_info": "Card information",
    }),
    *alike("gauge", "card", {
        "node_drm_gpu_busy_percent": "How busy the GPU is as a percentage.",
        "node_drm_memory_gtt_size_bytes":
            "The size of the graphics translation table (GTT) block in bytes.",
        "node_drm_memory_gtt_used_bytes":
            "The used amount of the graphics translation table (GTT) block in bytes.",
        "node_drm_memory_vis_vram_size_bytes": "The size of visible VRAM in bytes.",
        "node_drm_memory_vis_vram_used_bytes": "The used amount of visible VRAM in bytes.",
        "node_drm_memory_vram_size_bytes": "The size of VRAM in bytes.",
        "node_drm_memory_vram_used_bytes": "The used amount of VRAM in bytes.",
    }),
)  # fmt: skip

# The parts are the name that a metric may have, and the one that the kernel gives.
RAPL = OpenRow("node_rapl_{}_joules_total", "counter", "Current RAPL {1} value in joules")
POWER = OpenRow("node_power_supply_{}", "gauge",
                "{} value of /sys/class/power_supply/<power_supply>.")  # fmt: skip
# The parts are the rest of the name, and what node_exporter says of it.
HWMON = OpenRow("node_hwmon_{}", "gauge", "{1}")
HWMON_ENERGY = OpenRow("node_hwmon_{}_joule_total", "counter", "{1}")

HARDWARE = Table(
    (*_PROCESSORS, *_BOARDS, *_SENSORS, *_RAID, *_POWER, *_ENERGY, *_GRAPHICS),
    (RAPL, POWER, HWMON, HWMON_ENERGY),
)
