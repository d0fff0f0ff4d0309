"""What the agent says when it has started: what it watches, whom it tells, where to look."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from tocsin_alerting.rules.rule import AlertingRule, RuleFile


@dataclass(frozen=True, slots=True)
class Facts:
    """`gpus` is None while nobody knows; `why_no_worker` is empty when there is one."""

    gpus: int | None
    engines: Sequence[str]
    worker: str
    rules: Sequence[RuleFile]
    receivers: Sequence[str]
    directory: str
    retention: str
    url: str


def banner(facts: Facts) -> str:
    lines = (
        ("watches", _watched(facts)),
        ("worker", facts.worker),
        ("rules", _rules(facts.rules)),
        ("tells", ", ".join(facts.receivers)),
        ("keeps", f"incidents and samples in {facts.directory}, samples for {facts.retention}"),
        ("look at", f"{facts.url}/metrics, {facts.url}/, alertctl incidents, alertctl alerts"),
    )
    body = "".join(f"  {name:<8} {text}\n" for name, text in lines if text)
    return f"Tocsin {version('tocsin')}\n{body}"


def _watched(facts: Facts) -> str:
    gpus = {None: "GPUs as they answer", 0: "no NVIDIA GPU", 1: "1 GPU"}
    gpu = gpus.get(facts.gpus, f"{facts.gpus} GPUs")
    return ", ".join(("this host", gpu, *(facts.engines or ("no inference engine yet",))))


def _rules(files: Iterable[RuleFile]) -> str:
    rules = [rule for file in files for group in file.groups for rule in group.rules]
    alerts = sum(isinstance(rule, AlertingRule) for rule in rules)
    return f"{alerts} alerting and {len(rules) - alerts} recording rules"
