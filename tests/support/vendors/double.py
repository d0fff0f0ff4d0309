"""What doubles of vendors share besides `JudgingSink`: answers, signatures, a channel to try."""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from support.webhook_sink import Answer
from tocsin_alerting.notify.channel import Channel, ChannelDeps
from tocsin_alerting.notify.message_templates import MessageTemplates
from tocsin_alerting.notify.registry import CHANNELS, KINDS
from tocsin_alerting.notify.secret import Vault
from tocsin_alerting.notify.signed_links import SignedLinks


def answer_json(body: Mapping[str, Any], status: int = 200, **headers: str) -> Answer:
    text = json.dumps(body, ensure_ascii=False).encode()
    return Answer(status, {"Content-Type": "application/json", **headers}, text)


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """By the formula of RFC 2104, to check what the product signs by a library."""
    block = (hashlib.sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block) + message).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in block) + inner).digest()


def settings_of(kind: str, **settings: Any) -> Any:
    """The section of a receiver of this type. Raises pydantic's ValidationError."""
    model = next(one.settings for one in KINDS if one.name == kind)
    return model.model_validate({"type": kind, **settings})


@cache
def _links() -> SignedLinks:
    links = SignedLinks("https://gpu.example:4911")
    with TemporaryDirectory() as folder:
        links.begin(Path(folder))
    return links


@cache
def _templates(language: str) -> MessageTemplates:
    """Once: to compile them takes longer than all else."""
    return MessageTemplates(language, links=_links())


def vendor_channel(
    kind: str, env: Mapping[str, str], language: str = "en", **settings: Any
) -> Channel:
    """One whose messages have links to answer by; its secrets are in `env`."""
    vault = Vault(env, lambda path: path.read_text("utf-8"))
    deps = ChannelDeps(vault=vault, templates=_templates(language), links=_links())
    return CHANNELS[kind]("ops", settings_of(kind, **settings), deps)
