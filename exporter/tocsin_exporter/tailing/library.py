"""The patterns that come with us: `patterns.yml`, with lines that they match and do not match."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tocsin_exporter.tailing.settings import LogPattern

FILE = Path(__file__).with_name("patterns.yml")
GROUPS = ("engine", "gpu", "kernel", "web", "system")


def rows() -> Mapping[str, Mapping[str, Any]]:
    """Each with `group`, `means`, `regex` and `matches`, some with `ignores`."""
    found: Mapping[str, Mapping[str, Any]] = yaml.safe_load(FILE.read_text("utf-8"))
    return found


@cache
def known_patterns() -> Mapping[str, LogPattern]:
    return {name: LogPattern(name, row["regex"], row["group"]) for name, row in rows().items()}
