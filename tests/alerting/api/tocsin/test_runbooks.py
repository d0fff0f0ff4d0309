"""Runbooks over HTTP: those that there are, and no other file."""

from pathlib import Path

import pytest

from support.api_client import api_client
from tocsin_alerting.api.tocsin.runbooks import routes
from tocsin_alerting.bundled import bundled


@pytest.mark.parametrize("name", ["InferenceEngineDown", "InferenceEngineDown.md"])
async def test_a_bundled_one(name: str) -> None:
    async with api_client(routes(lambda: bundled("docs/runbooks"))) as client:
        answer = await client.get(f"/runbooks/{name}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    assert answer.text.startswith("# InferenceEngineDown\n")


@pytest.mark.parametrize(
    "name",
    ["Nothing", "../secret", "..%2Fsecret", "%2e%2e%2fsecret", "secret%00", "a" * 300, "%00", "-",
     "日志", "sub%2Fsecret", "."],
)  # fmt: skip
async def test_no_other_file(tmp_path: Path, name: str) -> None:
    pages = tmp_path / "pages"
    (pages / "sub").mkdir(parents=True)
    for folder in (tmp_path, pages / "sub"):
        (folder / "secret.md").write_text("secret content")
    async with api_client(routes(lambda: pages)) as client:
        answer = await client.get(f"/runbooks/{name}")
    assert answer.status_code == 404
    assert "secret content" not in answer.text
