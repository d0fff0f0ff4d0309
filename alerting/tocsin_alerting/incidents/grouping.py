"""Which alerts make one incident: those with equal values of the labels that are grouped by."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from tocsin_alerting.incidents.routing import (
    EVERY_LABEL,
    SEVERITY_LABEL,
    IncidentConfig,
    group_by_for,
)
from tocsin_alerting.rules.alert import fingerprint
from tocsin_exporter.snapshot import Labels


@dataclass(frozen=True, slots=True)
class Group:
    """`key` is Alertmanager's way to write it: `{}:{alertname="EngineDown", target="a:8000"}`."""

    labels: Labels

    @property
    def key(self) -> str:
        pairs = (f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in self.labels)
        return f"{{}}:{{{', '.join(pairs)}}}"

    def uid(self, opened_at_ms: int) -> str:
        """A name that no other incident has, in this journal or after it was lost."""
        return fingerprint((*self.labels, ("", str(opened_at_ms))))


def group_of(config: IncidentConfig, labels: Mapping[str, str]) -> Group:
    """A label that is missing is left out, as if it were empty."""
    by = group_by_for(config, labels)
    every = EVERY_LABEL in by
    return Group(
        tuple(
            (name, value)
            for name, value in sorted(labels.items())
            if value and name != SEVERITY_LABEL and (every or name in by)
        )
    )
