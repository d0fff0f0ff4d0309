"""What each of our commands that serve does with its own process before anything else."""

import os
from typing import Any

from tocsin_alerting.local import data_lock
from tocsin_exporter import logs, output
from tocsin_exporter.connections import raise_descriptor_limit


def prepare_process(log_level: str, log_format: Any) -> None:
    """What we write is nobody else's business, no output of ours may hold us up, and each client
    takes a descriptor."""
    os.umask(data_lock.PRIVATE_MASK)
    output.install()
    raise_descriptor_limit()
    logs.configure(log_level, log_format)
