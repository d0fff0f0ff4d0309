"""Every metric that may be on our page: name, type, unit, help and labels, a table an area."""

from tocsin_exporter.catalogue.containers import CONTAINERS
from tocsin_exporter.catalogue.fabrics import FABRICS
from tocsin_exporter.catalogue.gpu import GPU
from tocsin_exporter.catalogue.hardware import HARDWARE
from tocsin_exporter.catalogue.host import HOST
from tocsin_exporter.catalogue.kernel import KERNEL
from tocsin_exporter.catalogue.kernel_tables import KERNEL_TABLES
from tocsin_exporter.catalogue.llm import LLM
from tocsin_exporter.catalogue.logs import LOGS
from tocsin_exporter.catalogue.network import NETWORK
from tocsin_exporter.catalogue.nfs import NFS
from tocsin_exporter.catalogue.own import OWN
from tocsin_exporter.catalogue.probes import PROBES
from tocsin_exporter.catalogue.process import PROCESS
from tocsin_exporter.catalogue.services import SERVICES
from tocsin_exporter.catalogue.stages import STAGES
from tocsin_exporter.catalogue.storage import STORAGE
from tocsin_exporter.catalogue.table import Table

TABLES: dict[str, Table] = {
    "Host": HOST,
    "Network": NETWORK,
    "Kernel and system": KERNEL,
    "Kernel tables": KERNEL_TABLES,
    "Hardware": HARDWARE,
    "Fabrics and filesystems": FABRICS,
    "Storage": STORAGE,
    "NFS": NFS,
    "Services": SERVICES,
    "Processes": PROCESS,
    "Containers": CONTAINERS,
    "GPU": GPU,
    "Inference": LLM,
    "Logs": LOGS,
    "Probes": PROBES,
    "The agent itself": OWN,
    "Store, rules, incidents": STAGES,
}

__all__ = [
    "CONTAINERS",
    "FABRICS",
    "GPU",
    "HARDWARE",
    "HOST",
    "KERNEL",
    "KERNEL_TABLES",
    "LLM",
    "LOGS",
    "NETWORK",
    "NFS",
    "OWN",
    "PROBES",
    "PROCESS",
    "SERVICES",
    "STAGES",
    "STORAGE",
    "TABLES",
    "Table",
]
