"""What can be configured is documented, and what is documented can be configured."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from pydantic.fields import FieldInfo

from tocsin_alerting.config.config import Config
from tocsin_alerting.config.load import load
from tocsin_alerting.notify.http_sender import HttpSettings
from tocsin_alerting.notify.receiver_section import ReceiverSection
from tocsin_alerting.notify.registry import KINDS
from tocsin_alerting.settings import Section

# apprise imports it
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

DOCS = Path(__file__).parents[3] / "docs"


def _kinds() -> dict[str, type[Section]]:
    return {kind.name: kind.settings for kind in KINDS}


def _blocks(text: str) -> list[dict[str, Any]]:
    parts = text.split("```yaml\n")[1:]
    return [yaml.safe_load(part.split("```")[0]) for part in parts]


@pytest.mark.parametrize("kind", _kinds())
def test_every_key_of_a_channel_stands_in_its_section(kind: str) -> None:
    """Those that all have, and those of all that speak HTTP, are explained once."""
    text = (DOCS / "channels.md").read_text()
    titles = (kind, "HTTP", "Keys of every receiver")
    section, http, common = (text.split(f"\n## {t}\n")[1].split("\n## ")[0] for t in titles)
    assert issubclass(_kinds()[kind], ReceiverSection)
    if issubclass(_kinds()[kind], HttpSettings):
        section += "".join(f" {name}:" for name in re.findall(r"^\| `(\w+)` \|", http, re.M))
    for name, field in _kinds()[kind].model_fields.items():
        if name in ReceiverSection.model_fields:
            assert f" {name}:" in common
        elif field.annotation is not type(None):  # the key that is there to be refused
            assert f" {field.alias or name}:" in section, name


def _sections(annotation: Any) -> Iterator[type[Section]]:
    """Those that a key's value may hold, however deep in lists and tables."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for argument in () if get_origin(annotation) is Literal else get_args(annotation):
        yield from _sections(argument)


def _literals(annotation: Any) -> Iterator[object]:
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    else:
        for argument in get_args(annotation):
            yield from _literals(argument)


def _keys(section: type[Section], path: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Each key that can be written, as `web.listen_address`, whichever entry of a list has it."""
    for name, field in section.model_fields.items():
        if field.annotation is not type(None):  # the key that is there to be refused
            key = path + (field.alias or name)
            yield key, field
            for inner in _sections(field.annotation):
                yield from _keys(inner, f"{key}.")


KEYS = dict(_keys(Config))
REFERENCE = (DOCS / "configuration.md").read_text("utf-8")
OTHER_WORDS = {"vllm", "sglang", "null"}  # groups of processes, and YAML's word for nothing
DEFAULTS = (DOCS / "config.yml").read_text("utf-8")


def _told_in(key: str) -> str:
    """The part of the pages that explains this key."""
    top = key.split(".")[0]
    match top:
        case "engines":
            return (DOCS / "engines.md").read_text("utf-8")
        case "smtp" | "receivers":
            return (DOCS / "channels.md").read_text("utf-8")
        case "contacts" | "schedules":
            return (DOCS / "oncall.md").read_text("utf-8")
        case "datasource" | "group_datasources" | "alertmanagers" | "remote_write":
            return (DOCS / "elsewhere.md").read_text("utf-8")
        case "logs":
            return (DOCS / "logs.md").read_text("utf-8")
        case "scrape_configs":
            return (DOCS / "scraping.md").read_text("utf-8")
        case "probes":
            return (DOCS / "probes.md").read_text("utf-8")
        case "version" | "time_zone" | "language":
            return DEFAULTS
        case "routes":
            return REFERENCE.partition("\n### Routes\n")[2]
        case "group" | "inhibit":
            return REFERENCE.partition("\n### Group and inhibit\n")[2]
    in_a_table = re.search(rf"(?m)^\| `{top}` \|.*$", REFERENCE)
    return in_a_table[0] if in_a_table else REFERENCE.partition("\n## What is watched\n")[2]


def _of_default(top: str) -> str:
    """The lines of config.yml from one key of the top level to the next, with their comments."""
    parts = re.split(r"(?m)^(?=[a-z_]+:)", DEFAULTS)
    (text,) = (part for part in parts if part.startswith(f"{top}:"))
    return text


def _has(text: str, name: str) -> bool:
    return re.search(rf"(?<!\w){name}(?!\w)", text) is not None


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_explained_where_its_section_is(key: str) -> None:
    code = re.findall(r"(?s)```yaml\n.*?```|`[^`\n]+`", _told_in(key))
    text = DEFAULTS if key in ("version", "time_zone", "language") else "\n".join(code)
    assert _has(text, key.rpartition(".")[2])


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_in_the_file_of_defaults(key: str) -> None:
    top = key.split(".")[0]
    if top in ("receivers", "smtp") and "." in key:
        assert "docs/channels.md" in _of_default(top)
    else:
        alike = _of_default("datasource") if top == "group_datasources" else ""
        assert _has(_of_default(top) + alike, key.rpartition(".")[2])


def test_every_key_that_a_page_names_can_be_written() -> None:
    """`ack.timeout` is short for `policies.ack.timeout`."""
    ends = {".".join(key.split(".")[-count:]) for key in KEYS for count in (1, 2, 3)}
    firsts = {*Config.model_fields, "ack", "basic_auth", "restart", "tls"}
    of_the_house = {"architecture.md", "glossary.md"}  # they name files so
    files = {"incidents.db", "logs.yml", "probes.yml", "targets.json"}
    named = [
        (page.name, code)
        for page in sorted(DOCS.glob("*.md"))
        for code in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)(?::[^`]*)?`", page.read_text("utf-8"))
        if page.name not in of_the_house and code.split(".")[0] in firsts
    ]
    assert len(named) > 20
    assert [(page, code) for page, code in named if code not in ends | files] == []


def test_the_row_of_a_section_names_its_keys_and_no_other() -> None:
    rows = re.findall(
        r"(?m)^\| `([a-z_]+)` \|(.*)$",
        REFERENCE.partition("\n## What is watched\n")[2].partition("\n## ")[0],
    )
    assert len(rows) > 10
    for key, words in rows:
        assert key in KEYS
        inner = {name: field for name, field in KEYS.items() if name.startswith(f"{key}.")}
        names = {name.rpartition(".")[2] for name in inner}
        values = {value for field in inner.values() for value in _literals(field.annotation)}
        named = set(re.findall(r"`([a-z_]+)`", words))
        assert named - names - values - KEYS.keys() - OTHER_WORDS == set(), key


@pytest.mark.parametrize("page", ["channels.md", "configuration.md", "elsewhere.md"])
def test_the_examples_load(page: str, tmp_path: Path) -> None:
    (tmp_path / "sim.pin").write_text("1234")
    (tmp_path / "signing.key").write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    (tmp_path / "hook.url").write_text("https://example.com/hook")
    (tmp_path / "phone.url").write_text("json://localhost/")
    (tmp_path / "telegram.token").write_text("123456789:AAF-0123456789abcdefghijklm")
    for name in ("pagerduty.key", "ntfy.topic", "ntfy.token", "gotify.token", "matrix.token"):
        (tmp_path / name).write_text("hunter2")
    for name in ("pushover.token", "pushover.user", "slack.token", "slack.app-token"):
        (tmp_path / name).write_text("hunter2")
    for name in ("slack.url", "mattermost.url", "discord.url", "teams.url"):
        (tmp_path / name).write_text("https://example.com/hook")
    for name in ("wecom.url", "dingtalk.url", "feishu.url"):
        (tmp_path / name).write_text("https://robots.example/send?key=1")
    secrets = ("dingtalk.secret", "feishu.secret", "bark.key", "bark.password", "aliyun.secret")
    for name in ("smtp.password", "token", "api.key", "mimir.password", "am.token", *secrets):
        (tmp_path / name).write_text("hunter2")
    blocks = _blocks((DOCS / page).read_text())
    assert blocks
    hook = {"hook": {"type": "webhook", "url": "http://127.0.0.1:9/"}}
    for block in blocks:
        if find_spec("apprise") is None:
            block.get("receivers", {}).pop("phone", None)
        for settings in block.get("receivers", {}).values():
            for key in ("ca_file", "cert_file", "key_file"):
                settings.pop(key, None)  # certificates that only the reader has
        if "routes" in block:
            block["receivers"] = hook
        path = tmp_path / "t.yml"
        path.write_text(yaml.safe_dump(block))
        load(path, {})
