"""What can be configured is documented, and what is documented can be configured."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from tocsin_alerting.config import Config, load
from tocsin_alerting.notify.registry import ReceiverSettings
from tocsin_alerting.settings import Section

# apprise imports it
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

DOCS = Path(__file__).parents[3] / "docs"


def _kinds() -> dict[str, type[Section]]:
    members = (get_args(member) for member in get_args(get_args(ReceiverSettings)[0]))
    return {tag.tag: model for model, tag in members}


def _blocks(text: str) -> list[dict[str, Any]]:
    parts = text.split("```yaml\n")[1:]
    return [yaml.safe_load(part.split("```")[0]) for part in parts]


@pytest.mark.parametrize("kind", _kinds())
def test_every_key_of_a_channel_stands_in_its_section(kind: str) -> None:
    section = (DOCS / "channels.md").read_text().split(f"\n## {kind}\n")[1].split("\n## ")[0]
    for name, field in _kinds()[kind].model_fields.items():
        if field.annotation is not type(None):  # the key that is there to be refused
            assert f" {field.alias or name}:" in section, name


def test_every_key_stands_in_the_reference() -> None:
    text = (DOCS / "configuration.md").read_text()
    told_elsewhere = {"version", "time_zone", "language", "external_url"}
    for name in Config.model_fields.keys() - told_elsewhere:
        assert name in text, name


@pytest.mark.parametrize("page", ["channels.md", "configuration.md"])
def test_the_examples_load(page: str, tmp_path: Path) -> None:
    (tmp_path / "signing.key").write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    (tmp_path / "hook.url").write_text("https://example.com/hook")
    (tmp_path / "phone.url").write_text("json://localhost/")
    for name in ("smtp.password", "token", "api.key"):
        (tmp_path / name).write_text("hunter2")
    blocks = _blocks((DOCS / page).read_text())
    assert blocks
    hook = {"hook": {"type": "webhook", "url": "http://127.0.0.1:9/"}}
    for block in blocks:
        if find_spec("apprise") is None:
            block.get("receivers", {}).pop("phone", None)
        for settings in block.get("receivers", {}).values():
            settings.pop("ca_file", None)  # a certificate that only the reader has
        if "routes" in block:
            block["receivers"] = hook
        path = tmp_path / "t.yml"
        path.write_text(yaml.safe_dump(block))
        load(path, {})
