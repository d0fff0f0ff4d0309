"""The last good copy of each rule file, in the data directory: a start finds it when the file
itself is broken or gone."""

import hashlib
import logging
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from tocsin_alerting.yaml_document import file_text

log = logging.getLogger(__name__)

DIRECTORY = "rule-copies"


@dataclass(frozen=True, slots=True)
class RuleCopies:
    """`directory` need not exist. A copy is named by the hash of its file's path."""

    directory: Path

    @classmethod
    def of(cls, storage_path: str) -> "RuleCopies":
        return cls(Path(storage_path) / DIRECTORY)

    def text(self, path: str) -> str | None:
        """What the rule file `path` said when it was good last; None where nobody knows."""
        try:
            return file_text(self._place(path))
        except (OSError, UnicodeDecodeError):
            return None

    def keep(self, texts: Mapping[str, str], broken: Collection[str] = ()) -> None:
        """Of all rule files, by their paths; but for those that are `broken` they are good. A disk
        that takes nothing costs the copies alone."""
        try:
            for path in texts.keys() - broken:
                self._keep(self._place(path), texts[path])
            kept = {self._place(path).name for path in (*texts, *broken)}
            for old in self.directory.glob("*.yml"):
                if old.name not in kept:
                    old.unlink()
        except OSError as error:
            log.warning("failed to keep copies of rule files: %s", error)

    def _place(self, path: str) -> Path:
        name = hashlib.sha256(os.fsencode(path)).hexdigest()[:32]
        return self.directory / f"{name}.yml"

    def _keep(self, place: Path, text: str) -> None:
        if place.is_file() and file_text(place) == text:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        fresh = place.with_suffix(".part")
        fresh.write_text(text, encoding="utf-8", newline="")
        os.replace(fresh, place)
