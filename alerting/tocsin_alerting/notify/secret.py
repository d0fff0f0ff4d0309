"""A value that no log, error or repr may show."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

MASK = "***"
ReadFile = Callable[[Path], str]


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    value: str

    def __repr__(self) -> str:
        return f"Secret({MASK})"


@dataclass(frozen=True, slots=True)
class Vault:
    """Where secrets come from: files and the environment."""

    env: Mapping[str, str]
    read_file: ReadFile

    def secret(self, file: Path | None, variable: str | None) -> Secret | None:
        """The secret that `file` or the environment `variable` holds; None when neither is named.

        Raises ValueError that says what is missing, without its content.
        """
        if file is not None:
            return Secret(self._from_file(file))
        if variable is None:
            return None
        if not self.env.get(variable):
            raise ValueError(f"environment variable {variable} is not set or is empty; set it")
        return Secret(self.env[variable])

    def _from_file(self, file: Path) -> str:
        try:
            text = self.read_file(file).strip("\r\n")
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise ValueError(f"cannot read {file}: {reason}") from None
        except UnicodeDecodeError:
            raise ValueError(f"cannot read {file}: not UTF-8 text") from None
        if not text or "\n" in text or "\x00" in text:
            raise ValueError(f"{file} must hold the secret in one line and nothing else")
        return text


def covered(text: str, secrets: Iterable[str]) -> str:
    """`text` with every secret covered, the longest first, and else as it is."""
    for secret in sorted({secret for secret in secrets if secret}, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def masked(text: str, secrets: Iterable[str]) -> str:
    """`text` with every secret covered; one line, at most 300 characters."""
    text = covered(text, secrets)
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= 300 else line[:299] + "…"
