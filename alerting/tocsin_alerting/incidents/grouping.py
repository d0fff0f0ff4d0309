"""Which alerts make one incident: those with equal values of the labels that are grouped by."""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tocsin_alerting.incidents.routing import (
    EVERY_LABEL,
    SEVERITY_LABEL,
    IncidentConfig,
    group_by_for,
)
from tocsin_alerting.rules.alert import fingerprint
from tocsin_exporter.snapshot import Labels

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})
_ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s/:]+):(?P<port>[0-9]{1,5})")


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
    if EVERY_LABEL in by:
        chosen = dict(labels)
    else:
        chosen = _placed({name: labels.get(name, "") for name in by}, config.local_names)
    chosen.pop(SEVERITY_LABEL, None)
    return Group(tuple((name, value) for name, value in sorted(chosen.items()) if value))


def _placed(labels: dict[str, str], local: Collection[str]) -> dict[str, str]:
    """One thing is one thing, whoever tells of it: `instance` goes where it names only the teller.

    An engine may be watched by the agent and by an exporter; its `target` says which one it is, and
    a GPU's `UUID` does. A target on the loopback is told apart by the machine.
    """
    if "instance" not in labels:
        return labels
    target = _ADDRESS.fullmatch(labels.get("target", ""))
    if target is None:
        return {**labels, "instance": ""} if labels.get("UUID") else labels
    if target["host"] not in LOOPBACK:
        return {**labels, "instance": ""}
    teller = _ADDRESS.fullmatch(labels["instance"])
    machine = teller["host"] if teller else labels["instance"]
    machine = "" if machine in LOOPBACK or machine.lower() in local else machine
    return {**labels, "instance": machine, "target": f"127.0.0.1:{target['port']}"}
