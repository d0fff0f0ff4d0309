"""What the agent says when it has started: what it watches, whom it tells, where to look."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from tocsin_alerting.http import alertctl_command, reachable
from tocsin_alerting.rules.rule import AlertingRule, RuleFile
from tocsin_alerting.time_format import format_duration

DEMO = (
    "a demo with a small model, starting at {}; it stops when an engine is found, on a usual port "
    "or named with --engine.url http://HOST:PORT"
)


@dataclass(frozen=True, slots=True)
class StartFacts:
    """`gpus` is None while nobody knows. `url` is where the agent serves, as configured: it may
    name no host. `nobody`: every message goes to the log alone. `journal_error` says why incidents
    are not recorded, "" where they are, and `retention_ms` how long samples are kept, None when
    none can be. `silent` are targets of engines that are expected and do not answer, `strangers`
    (URL, user) of those that belong to others and are not read. `load_rps`: chat requests a second
    that `--load` sends to the first engine. `exposure` says what other machines may see,
    `unwatched` that nothing outside watches this machine, `links` that people cannot follow those
    in messages. `simulated` is the file of the GPUs that are not there."""

    gpus: int | None
    engines: Sequence[str]
    worker: str
    rules: Sequence[RuleFile]
    receivers: Sequence[str]
    directory: str
    retention_ms: int | None
    url: str
    journal_error: str = ""
    nobody: bool = False
    silent: Sequence[str] = ()
    strangers: Sequence[tuple[str, str]] = ()
    load_rps: float | None = None
    exposure: str = ""
    unwatched: str = ""
    links: str = ""
    simulated: str = ""


def banner(facts: StartFacts) -> str:
    url = reachable(facts.url)
    alertctl = alertctl_command(facts.url)
    lines = (
        ("watches", _watched(facts)),
        ("worker", facts.worker),
        ("load", _load(facts)),
        *(
            ("forget", f"{alertctl} engines forget {target}, if it is gone")
            for target in facts.silent
        ),
        *(("not read", _stranger(*server)) for server in facts.strangers),
        ("rules", _rules(facts.rules)),
        ("notifies", "NOBODY, only this log" if facts.nobody else ", ".join(facts.receivers)),
        ("but", _simulated(facts)),
        ("but", facts.unwatched),
        ("but", facts.links),
        ("keeps", f"{_storage_line(facts)}, {_samples(facts)}"),
        ("access", facts.exposure),
        ("look at", f"{url}/metrics, {url}/, {alertctl} incidents, {alertctl} alerts"),
    )
    body = "".join(f"  {name:<8} {text}\n" for name, text in lines if text)
    return f"Tocsin {version('tocsin')}\n{body}"


def _storage_line(facts: StartFacts) -> str:
    if not facts.journal_error:
        return f"incidents in {facts.directory}"
    return f"incidents NOT RECORDED (journal in {facts.directory}: {facts.journal_error})"


def _samples(facts: StartFacts) -> str:
    if facts.retention_ms is None:
        return "samples in memory only"
    days, rest = divmod(facts.retention_ms, 86_400_000)
    return f"samples for {format_duration(facts.retention_ms) if rest else f'{days}d'}"


def _watched(facts: StartFacts) -> str:
    gpus = {None: "GPUs not counted yet", 0: "no NVIDIA GPU", 1: "1 GPU"}
    gpu = gpus.get(facts.gpus, f"{facts.gpus} GPUs")
    return ", ".join(("this host", gpu, *(facts.engines or ("no inference engine yet",))))


def _simulated(facts: StartFacts) -> str:
    if not facts.simulated:
        return ""
    return (
        f"the GPUs are SIMULATED, as {facts.simulated} says: their series, and alerts by them, have"
        ' simulated="true"'
    )


def _load(facts: StartFacts) -> str:
    if facts.load_rps is None:
        return ""
    where = facts.engines[0] if facts.engines else "the first engine found"
    return f"{facts.load_rps:g} real chat requests per second to {where}, because of --load"


def _stranger(url: str, user: str) -> str:
    return f"{url} belongs to user {user}; to watch it: discovery: {{allow_users: [{user}]}}"


def _rules(files: Iterable[RuleFile]) -> str:
    rules = [rule for file in files for group in file.groups for rule in group.rules]
    alerts = sum(isinstance(rule, AlertingRule) for rule in rules)
    return f"{alerts} alerting and {len(rules) - alerts} recording rules"
