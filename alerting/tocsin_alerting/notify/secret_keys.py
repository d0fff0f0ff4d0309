"""Keys of a section whose value is a secret: `token_file` or `token_env`, never `token`."""

from collections.abc import Sequence
from pathlib import Path

from tocsin_alerting.notify.message_parts import MessageParts
from tocsin_alerting.notify.secret import Secret, Vault
from tocsin_alerting.settings import Section


def require_secrets(section: Section, *names: str) -> None:
    """Raises ValueError where one of them has no file and no variable, or both."""
    for name in names:
        if sum(value is not None for value in _ways(section, name)) != 1:
            raise ValueError(f"give exactly one of {name}_file and {name}_env")


def refuse_both(section: Section, *names: str) -> None:
    """The same for those that may be missing."""
    for name in names:
        if None not in _ways(section, name):
            raise ValueError(f"give {name}_file or {name}_env, not both")


def secret_of(section: Section, name: str, vault: Vault) -> Secret:
    """What the file or the variable holds, "" where neither is named. Raises ValueError, which does
    not show it."""
    secret = vault.secret(*_ways(section, name)) or Secret("")
    if not secret.value.isascii() or not secret.value.isprintable() or " " in secret.value:
        raise ValueError(f"{name} has characters that no {name} has; write it again")
    return secret


def link_secrets(parts: MessageParts) -> Sequence[str]:
    """What of this message nobody may read who did not get it: the end of the link that answers."""
    token = parts.answer_url.rpartition("/")[2]
    return (token,) if token else ()


def _ways(section: Section, name: str) -> tuple[Path | None, str | None]:
    return getattr(section, f"{name}_file"), getattr(section, f"{name}_env")
