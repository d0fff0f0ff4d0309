"""Which alerts make one incident: those with equal values of the labels that are grouped by."""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache

from tocsin_alerting.incidents.routing import (
    EVERY_LABEL,
    IncidentConfig,
    group_by_for,
)
from tocsin_alerting.rules.alert import fingerprint
from tocsin_alerting.rules.severity import SEVERITY_LABEL
from tocsin_exporter.engine_access import canonical_host, place
from tocsin_exporter.snapshot import Labels

LOOPBACK = "127.0.0.1"
_PORT = re.compile("[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class AlertGroup:
    """`key` is Alertmanager's way to write it: `{}:{alertname="EngineDown", target="a:8000"}`."""

    labels: Labels

    @property
    def key(self) -> str:
        pairs = (f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in self.labels)
        return f"{{}}:{{{', '.join(pairs)}}}"

    def uid(self, opened_at_ms: int) -> str:
        """A name that no other incident has, in this journal or after it was lost."""
        return fingerprint((*self.labels, ("", str(opened_at_ms))))


def alert_group(config: IncidentConfig, labels: Mapping[str, str]) -> AlertGroup:
    """A label that is missing is left out, as if it were empty."""
    by = group_by_for(config, labels)
    if EVERY_LABEL in by:
        chosen = dict(labels)
    else:
        chosen = _canonical({name: labels.get(name, "") for name in by}, config.local_names)
    chosen.pop(SEVERITY_LABEL, None)
    if simulated := labels.get("simulated"):  # what is real joins no drill, however it is grouped
        chosen["simulated"] = simulated
    return AlertGroup(tuple((name, value) for name, value in sorted(chosen.items()) if value))


def _canonical(labels: dict[str, str], local: Collection[str]) -> dict[str, str]:
    """One thing is one thing, whoever tells of it: `instance` goes where it names only the teller.

    An engine may be watched by the agent and by an exporter; its `target` says which one it is, and
    a GPU's `UUID` does. A target on the loopback is told apart by the machine.
    """
    address = address_of(labels.get("target", ""))
    if address is None:
        named = labels.get("UUID") and "instance" in labels
        return {**labels, "instance": ""} if named else labels
    placed = {**labels, "target": str(address)}
    if "instance" in labels:
        placed["instance"] = machine_of(labels["instance"], local) if address.on_loopback else ""
    return placed


@dataclass(frozen=True, slots=True)
class TargetAddress:
    """`host` as `canonical_host` has it; `rest` is the port and the path: `:8000/v1`."""

    host: str
    rest: str

    @property
    def on_loopback(self) -> bool:
        return self.host == LOOPBACK

    def __str__(self) -> str:
        return (f"[{self.host}]" if ":" in self.host else self.host) + self.rest


@lru_cache(4096)
def address_of(written: str) -> TargetAddress | None:
    """What a `target` or `instance` says, however it is written; None for what has no port."""
    host = written.partition("/")[0].rpartition(":")[0]
    if not host or (":" in host and not host.startswith("[")):
        return None
    where, slash, path = place(written).partition("/")
    host, _, port = where.rpartition(":")
    return TargetAddress(host, f":{port}{slash}{path}") if _PORT.fullmatch(port) else None


def machine_of(instance: str, local: Collection[str]) -> str:
    """The machine that an instance names; "" for the one that we run on."""
    address = address_of(instance)
    bare = instance.lower() if instance.isdigit() else canonical_host(instance)
    machine = address.host if address else bare
    return "" if machine == LOOPBACK or machine in local else machine
