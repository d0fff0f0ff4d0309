"""Each metric that boards of others ask for is on our page, or docs/grafana.md says why not."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from exporter.collectors.test_engine_page import read
from exporter.collectors.test_engine_recorded import text
from support.metric_names import on_our_page
from support.site import RECORDED

ROOT = Path(__file__).parents[2]
BOARDS = yaml.safe_load((RECORDED / "boards.yml").read_text(encoding="utf-8"))


def documented() -> set[tuple[str, str]]:
    page = (ROOT / "docs/grafana.md").read_text(encoding="utf-8")
    return set(re.findall(r"(?m)^\| ([\w -]+) \| `((?:node|DCGM)_\w+)` \|", page))


def absent(board: object) -> set[str]:
    """What a board asks of the host or of GPUs that no page of ours has."""
    return {name for name in BOARDS[board]["metrics"].split() if not on_our_page(name)}


@pytest.mark.parametrize("board", [1860, 12239, "node-mixin"])
def test_what_is_not_on_our_page_is_documented(board: object) -> None:
    asked = BOARDS[board]["metrics"].split()
    assert len(asked) > 5
    assert all(name.startswith(("node_", "DCGM_FI_", "process_", "up")) for name in asked)
    assert absent(board) == {
        name for of, name in documented() if of == str(board).replace("-", " ")
    }


def test_tgis_board_finds_its_metrics_on_the_engines_own_page() -> None:
    kept = {series.name for series in read(text("tgi-3.3.6"), "tgi").series}
    assert set(BOARDS["tgi"]["metrics"].split()) <= kept


def script() -> ModuleType:
    """scripts/board_metrics.py, which belongs to no package."""
    found = importlib.util.spec_from_file_location(
        "board_metrics", ROOT / "scripts/board_metrics.py"
    )
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_script_finds_the_metrics_of_a_query(tmp_path: Path) -> None:
    board = {
        "panels": [{"targets": [{"expr": QUERY}]}],
        "templating": {
            "list": [
                {"type": "datasource", "query": "prometheus"},
                {
                    "type": "query",
                    "query": {"query": 'label_values(node_uname_info{job="$job"}, x)'},
                },
            ]
        },
    }
    (tmp_path / "board.json").write_text(json.dumps(board))
    assert script().of_file(tmp_path / "board.json") == {
        *("node_load1", "node_cpu_seconds_total", "node_uname_info")
    }


QUERY = """
sum by (instance, cpu) (rate(node_cpu_seconds_total{mode!~"idle|node_x", a="$b"}[$__rate_interval]))
  / on (instance) group_left (nodename) (node_load1 offset 5m) > bool 1e3 and vector(0)
"""
