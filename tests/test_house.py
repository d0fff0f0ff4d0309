"""The house: names that stand once, short files and functions, no circle of imports, and pages for
developers that name files which are there."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = [ROOT / name for name in ("exporter", "alerting", "inference")]
MODULES = {path: ast.parse(path.read_text()) for src in SOURCES for path in src.rglob("*.py")}
MOST_FILE_LINES, MOST_FUNCTION_LINES = 500, 60


def module_name(path: Path) -> str:
    source = next(src for src in SOURCES if src in path.parents)
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {module_name(path): path for path in MODULES}


def test_class_names_stand_once() -> None:
    files = defaultdict(list)
    for path, tree in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                files[node.name].append(str(path.relative_to(ROOT)))
    assert {name: places for name, places in files.items() if len(places) > 1} == {}


def test_files_and_functions_are_short() -> None:
    long = []
    for path, tree in MODULES.items():
        if (lines := len(path.read_text().splitlines())) > MOST_FILE_LINES:
            long.append(f"{path.relative_to(ROOT)}: {lines} lines")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                if (lines := (node.end_lineno or 0) - node.lineno + 1) > MOST_FUNCTION_LINES:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {lines}")
    assert long == []


def imported(tree: ast.Module) -> Iterator[str]:
    """What a module imports when it is loaded: not what its functions import when they run."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name for name in inner if name in NAMES]
            yield from modules if len(modules) == len(inner) else [*modules, node.module]


def test_no_modules_import_each_other_in_a_circle() -> None:
    """A package's `__init__` counts where it is imported itself."""
    graph = {
        name: {other for other in imported(MODULES[path]) if other in NAMES and other != name}
        for name, path in NAMES.items()
    }
    # Raises CycleError, which names the circle.
    assert set(TopologicalSorter(graph).static_order()) == set(graph)


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_the_pages_for_developers_name_files_that_are_there(page: str) -> None:
    files = [
        str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py") if ".venv" not in path.parts
    ]
    files = [
        path.replace("/tocsin_exporter/", "/").replace("/tocsin_inference/", "/") for path in files
    ]
    text = (ROOT / page).read_text()
    named = {name for name in re.findall(r"[\w/]+\.py\b", text) if "NAME" not in name}
    assert named, page
    gone = [name for name in named if not any(f"/{path}".endswith(f"/{name}") for path in files)]
    assert gone == []


def test_every_field_of_a_dataclass_and_every_key_of_the_configuration_is_read() -> None:
    nodes = [node for tree in MODULES.values() for node in ast.walk(tree)]
    read = {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    read |= {name for node in nodes if isinstance(node, ast.MatchClass) for name in node.kwd_attrs}
    written = {
        (node.name, field.target.id)
        for node in nodes
        if isinstance(node, ast.ClassDef) and _has_fields(node)
        for field in node.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if not ast.unparse(field.annotation).startswith(
            ("RefusedKey", "Annotated[None", "ClassVar")
        )
    }
    assert len(written) > 700
    assert {(name, field) for name, field in written if field not in read} == set()


def _has_fields(node: ast.ClassDef) -> bool:
    dataclass = any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)
    return dataclass or any(ast.unparse(base).endswith("Section") for base in node.bases)
