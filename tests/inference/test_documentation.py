"""docs/worker.md against the worker: its commands are run, its tables and names compared."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import APIRoute

from inference.test_process import free_port, started, wait_until_healthy
from support.worker_server import serving
from tocsin_inference import errors, settings
from tocsin_inference.application import ROUTERS
from tocsin_inference.model import Model
from tocsin_inference.weights import SMOLLM2, cached

PAGE = (Path(__file__).parents[2] / "docs" / "worker.md").read_text(encoding="utf-8")
(BLOCK,) = re.findall(r"```\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = BLOCK.replace("\\\n", " ").splitlines()


def command(start: str) -> str:
    """The one command of the page that begins so, without its comment."""
    (line,) = [c for c in COMMANDS if c.startswith(start)]
    return str(line).split("  #")[0].strip()


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    """The cells of the section's table, without its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("| ")]
    return [[c.strip() for c in line.replace("\\|", "¦").split("|")[1:-1]] for line in lines][1:]


def environment(**more: str) -> dict[str, str]:
    """With `tocsin` of this environment first on the path."""
    here = str(Path(sys.executable).parent)
    return os.environ | {"PATH": f"{here}:{os.environ['PATH']}"} | more


def test_every_command_is_known_here() -> None:
    starts = ("tocsin worker fetch", "tocsin worker serve", "MODEL_PATH=", "curl ")
    assert [c for c in COMMANDS if not c.startswith(starts)] == []
    assert len(COMMANDS) == len(starts)


def test_fetch_says_where_the_model_is(tiny_path: Path, tmp_path: Path) -> None:
    there = shutil.copytree(tiny_path, cached(SMOLLM2, tmp_path))
    done = subprocess.run(
        command("tocsin worker fetch"),
        shell=True,
        env=environment(TOCSIN_CACHE_DIR=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, f"is in {there}" in done.stdout) == (0, True), done.stderr


@pytest.fixture(scope="module")
def port(tiny_path: Path) -> Iterator[int]:
    """Of `MODEL_PATH=... tocsin worker` as the page has it, but for the model and the port."""
    free = free_port()
    line = command("MODEL_PATH=").replace("/models/qwen", str(tiny_path))
    with started("env", *line.split()[:1], f"PORT={free}", *line.split()[1:]) as process:
        wait_until_healthy(free)
        yield free
        assert process.poll() is None


@pytest.fixture(autouse=True, scope="module")
def path_with_tocsin() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", environment()["PATH"])
        yield


def test_the_curl_streams_an_answer(port: int) -> None:
    line = command("curl ")
    assert line.count("8000") == 1
    done = subprocess.run(
        line.replace("8000", str(port)), shell=True, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert '"object":"chat.completion.chunk"' in done.stdout
    assert done.stdout.endswith("data: [DONE]\n\n")


def test_without_a_setting_it_listens_where_the_page_says() -> None:
    (line,) = [c for c in COMMANDS if c.startswith("tocsin worker serve")]
    _, chosen = settings.read(line.split("  #")[0].split()[2:], {}, "tocsin worker")
    assert line.endswith(f"http://{chosen.host}:{chosen.port}")


def test_every_flag_and_variable_is_in_the_table() -> None:
    flags = {
        option
        for action in settings.parser("x")._actions
        for option in action.option_strings
        if option.startswith("--") and option != "--help"
    }
    table = "\n".join(" ".join(row[:2]) for row in rows("Settings"))
    assert set(re.findall(r"--[a-z-]+", table)) == flags
    source = Path(settings.__file__).read_text(encoding="utf-8")
    read = set(re.findall(r'"([A-Z]{3,}(?:_[A-Z]+)*)"', source)) - {
        "XDG_CACHE_HOME",
        *settings.NOT_READ,
    }
    assert set(re.findall(r"[A-Z]{3,}(?:_[A-Z]+)*", table)) == read


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("LOG_LEVEL", "log_level"),
        ("DEFAULT_MAX_LENGTH", "default_max_length"),
        ("DEFAULT_TEMPERATURE, DEFAULT_TOP_P", "default_temperature, default_top_p"),
        ("HOST, PORT", "host, port"),
    ],
)
def test_the_defaults_are_the_pages(name: str, field: str) -> None:
    _, chosen = settings.read([], {}, "tocsin worker")
    (said,) = [row[2] for row in rows("Settings") if row[0] == name]
    assert said == ", ".join(str(getattr(chosen, f)) for f in field.split(", "))


def test_every_status_of_an_error_is_in_the_table_under_its_outcome() -> None:
    said = {int(s): row[2] for row in rows("Errors") for s in re.findall(r"\d{3}", row[0])}
    kinds = [k for k in vars(errors).values() if isinstance(k, type)]
    ours = [k for k in kinds if issubclass(k, errors.WorkerError)]
    wrong = [k for k in ours if said.get(k.status) not in (k.outcome, "-")]
    assert len(ours) > 10 and wrong == []
    assert set(said) == {k.status for k in ours}


def test_what_may_be_asked_again_says_when() -> None:
    table = {row[0]: row[1] for row in rows("Errors")}
    kinds = (errors.QueueFull, errors.EngineStopped)
    assert all(k.retry_after and "Retry-After" in table[str(k.status)] for k in kinds)


def test_the_table_has_every_endpoint_with_its_method() -> None:
    served = {
        (method, re.sub(r"\{[^}]*\}", "{id}", route.path))
        for router in ROUTERS.values()
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    listed = {
        (row[0][1:].split()[0], path)
        for row in rows("Endpoints")
        for path in re.findall(r"/[a-z_/0-9.{}]+", row[0])
    }
    assert listed == served | {("GET", "/openapi.json")}  # FastAPI's own


async def test_every_endpoint_and_metric_of_the_page_is_there(tiny: Model) -> None:
    async with serving(tiny) as server:
        listed = "\n".join(row[0] for row in rows("Endpoints"))
        methods = {
            path: "POST" if line.startswith("`POST") else "GET"
            for line in listed.splitlines()
            for path in re.findall(r"/[a-z_/0-9.{}]+", line)
        }
        assert len(methods) > 10
        for path, method in methods.items():
            where = path.replace("{id}", tiny.name)
            reply = await server.client.request(method, where, json={})
            assert reply.status_code == (422 if method == "POST" else 200), path
        page = (await server.client.get("/metrics")).text
    always, with_gpu = section("Metrics").split("with a GPU also")
    names = set(re.findall(r"`(llm_[a-z_]+)(?:\{[a-z,]+\})?`", always))
    assert len(names) > 10 and "llm_allocator_" not in names and with_gpu
    assert [n for n in sorted(names) if f"# TYPE {n} " not in page] == []
