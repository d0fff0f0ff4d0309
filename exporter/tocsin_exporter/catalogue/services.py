"""Units of systemd and who is logged in: as in `host.py`, node_exporter's own words."""

from tocsin_exporter.catalogue.table import Table, alike

_UNITS = (
    *alike("gauge", "name state type", {
        "node_systemd_unit_state": "Systemd unit",
    }),
    *alike("gauge", "name", {
        "node_systemd_unit_start_time_seconds":
            "Start time of the unit since unix epoch in seconds.",
        "node_systemd_unit_tasks_current": "Current number of tasks per Systemd unit",
        "node_systemd_unit_tasks_max": "Maximum number of tasks per Systemd unit",
        "node_systemd_timer_last_trigger_seconds": "Seconds since epoch of last trigger.",
        "node_systemd_socket_current_connections": "Current number of socket connections",
        "node_systemd_socket_refused_connections_total":
            "Total number of refused socket connections",
    }),
    *alike("counter", "name", {
        "node_systemd_service_restart_total": "Service unit count of Restart triggers",
        "node_systemd_socket_accepted_connections_total":
            "Total number of accepted socket connections",
    }),
)  # fmt: skip

_SYSTEM = (
    *alike("gauge", "state", {
        "node_systemd_units": "Summary of systemd unit states",
    }),
    *alike("gauge", "", {
        "node_systemd_system_running":
            "Whether the system is operational (see 'systemctl is-system-running')",
    }),
    *alike("gauge", "version", {
        "node_systemd_version": "Detected systemd version",
    }),
)  # fmt: skip

_LOGINS = alike("gauge", "seat remote type class", {
    "node_logind_sessions": "Number of sessions registered in logind.",
})  # fmt: skip

SERVICES = Table((*_UNITS, *_SYSTEM, *_LOGINS))
