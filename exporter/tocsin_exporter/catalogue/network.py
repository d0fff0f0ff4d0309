"""The host's network: node_exporter's names, types and help texts, word for word."""

from tocsin_exporter.catalogue.table import OpenRow, Row, Table, alike, counter, gauge

# Columns of /proc/net/dev in the kernel's order.
RECEIVE = ("bytes", "packets", "errs", "drop", "fifo", "frame", "compressed", "multicast")
TRANSMIT = ("bytes", "packets", "errs", "drop", "fifo", "colls", "carrier", "compressed")

# node_exporter's property name -> file under /sys/class/net/<device>.
GAUGE_FILES = {
    "address_assign_type": "addr_assign_type",
    "carrier": "carrier",
    "device_id": "dev_id",
    "dormant": "dormant",
    "flags": "flags",
    "iface_id": "ifindex",
    "iface_link": "iflink",
    "iface_link_mode": "link_mode",
    "mtu_bytes": "mtu",
    "name_assign_type": "name_assign_type",
    "net_dev_group": "netdev_group",
    "protocol_type": "type",
    "speed_bytes": "speed",
    "transmit_queue_length": "tx_queue_len",
}
COUNTER_FILES = {
    "carrier_changes_total": "carrier_changes",
    "carrier_up_changes_total": "carrier_up_count",
    "carrier_down_changes_total": "carrier_down_count",
}


def _statistic(name: str) -> Row:
    unit = "bytes" if name.endswith("_bytes") else ""
    help = f"Network device statistic {name}."
    return counter(f"node_network_{name}_total", help, unit, "device")


def _property(name: str) -> Row:
    unit = "bytes" if name.endswith("_bytes") else ""
    make = counter if name in COUNTER_FILES else gauge
    return make(f"node_network_{name}", f"Network device property: {name}", unit, "device")


_STATISTICS = (
    *(_statistic(f"receive_{column}") for column in RECEIVE),
    *(_statistic(f"transmit_{column}") for column in TRANSMIT),
    _statistic("receive_nohandler"),
)
_PROPERTIES = (
    *(_property(name) for name in (*GAUGE_FILES, *COUNTER_FILES)),
    gauge("node_network_up", "Value is 1 if operstate is 'up', 0 otherwise.", "", "device"),
    gauge(
        "node_network_info",
        "Non-numeric data from /sys/class/net/<iface>, value is always 1.",
        "",
        *("device", "address", "broadcast", "duplex", "operstate", "ifalias"),
    ),
)
_SOCKETS = (gauge("node_sockstat_sockets_used", "Number of IPv4 sockets in use."),)
_BALANCER = (
    *alike("gauge", "local_address local_port remote_address remote_port proto local_mark", {
        "node_ipvs_backend_connections_active":
            "The current active connections by local and remote address.",
        "node_ipvs_backend_connections_inactive":
            "The current inactive connections by local and remote address.",
        "node_ipvs_backend_weight": "The current backend weight by local and remote address.",
    }),
    *alike("counter", "", {
        "node_ipvs_connections_total": "The total number of connections made.",
        "node_ipvs_incoming_bytes_total": "The total amount of incoming data.",
        "node_ipvs_incoming_packets_total": "The total number of incoming packets.",
        "node_ipvs_outgoing_bytes_total": "The total amount of outgoing data.",
        "node_ipvs_outgoing_packets_total": "The total number of outgoing packets.",
    }),
)  # fmt: skip
_QUEUES = (
    *alike("gauge", "device kind", {
        "node_qdisc_backlog": "Number of bytes currently in queue to be sent.",
        "node_qdisc_current_queue_length": "Number of packets currently in queue to be sent.",
    }),
    *alike("counter", "device kind", {
        "node_qdisc_bytes_total": "Number of bytes sent.",
        "node_qdisc_drops_total": "Number of packets dropped.",
        "node_qdisc_overlimits_total": "Number of overlimit packets.",
        "node_qdisc_packets_total": "Number of packets sent.",
        "node_qdisc_requeues_total": "Number of packets dequeued, not transmitted, and requeued.",
    }),
)  # fmt: skip
_ROUTES = (
    gauge("node_network_routes", "network routes by interface", "", "device"),
    gauge("node_network_route_info", "network routing table information", "",
          "device", "src", "dest", "gw", "priority", "proto", "weight"),
)  # fmt: skip

# The parts are the protocol and the field.
NETSTAT = OpenRow("node_netstat_{}_{}", "untyped", "Statistic {}{}.")
SOCKSTAT = OpenRow("node_sockstat_{}_{}", "gauge", "Number of {} sockets in state {}.")

NETWORK = Table(
    (*_STATISTICS, *_PROPERTIES, *_SOCKETS, *_BALANCER, *_QUEUES, *_ROUTES),
    (NETSTAT, SOCKSTAT),
)
