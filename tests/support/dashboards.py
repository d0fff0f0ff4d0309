"""The script that builds the dashboards, which belongs to no package."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[2] / "dashboards"
FILES = sorted(ROOT.glob("*.json"))


def build_script() -> ModuleType:
    """The module dashboards/build.py."""
    spec = importlib.util.spec_from_file_location("dashboard_build", ROOT / "build.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text("utf-8")))
