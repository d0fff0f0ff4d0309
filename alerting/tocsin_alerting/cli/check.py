"""`alertctl check`: rule files, their unit tests and configurations, with or without an agent."""

import gc
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tocsin_alerting.cli.client import FAILED, LINT, AgentClient
from tocsin_alerting.cli.output import count
from tocsin_alerting.cli.templates import check_templates

if TYPE_CHECKING:
    from tocsin_alerting.cli.live import LiveAgent
    from tocsin_alerting.config.config import Config
    from tocsin_alerting.notify.own_templates import TemplateProblem
    from tocsin_alerting.promql.parser.signatures import Semantics
    from tocsin_alerting.rules.lint import Lint
    from tocsin_alerting.yaml_document import Document

# As `ADVICE` of `tocsin_alerting.config.way_lint` and `LINTS` of `tocsin_alerting.rules.lint`,
# which `--help` need not load.
WARNINGS = ("single-channel", "unused-receiver", "nobody-at-hours")
LINTS = (
    "absent-regex",
    "counter-without-rate",
    "duplicate-rules",
    "for-below-interval",
    "foreign-severity",
    "humanize-percentage",
    "never-fires",
    "no-rules",
    "no-runbook",
    "no-severity",
    "no-summary",
    "rate-of-gauge",
    "unknown-severity",
    "value-in-label",
    "wrong-unit",
    "matches-nothing",
    "never-reached",
)
NAMED = (*WARNINGS, *LINTS)
STDIN = "-"
_GENERAL = ("default", "all", "none")
_MOST_OF_A_NAME = 100

semantics_option = click.option(
    "--promql.semantics",
    "semantics",
    type=click.Choice(["2", "3"]),
    default="3",
    show_default=True,
    callback=lambda _, __, value: int(value),
    help="PromQL semantics of the expressions: Prometheus 2.42 or 3.",
)

ignore_unknown_option = click.option(
    "--ignore-unknown-fields",
    "ignore_unknown",
    is_flag=True,
    help="Take rule files with keys that are somebody else's; a Prometheus refuses them.",
)


def _lint_words(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    """The words of all `--lint`, each checked."""
    words = tuple(word.strip() for text in texts for word in text.split(",") if word.strip())
    for word in words:
        if word not in (*_GENERAL, *LINTS):
            near = get_close_matches(word, (*_GENERAL, *LINTS), n=1)
            known = f"did you mean {near[0]}?" if near else f"known are {', '.join(LINTS)}"
            raise click.BadParameter(f"there is no lint {word}; {known}")
    return words


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What is looked for in a file, and of whom it is asked."""

    semantics: "Semantics"
    words: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    agent: "LiveAgent | None" = None
    ignore_unknown: bool = False

    def lints(self) -> frozenset[str]:
        """The lints that are said."""
        from tocsin_alerting.rules import lint

        general = {
            "default": (*lint.BY_DEFAULT, *(lint.LIVE if self.agent else ())),
            "all": lint.LINTS,
            "none": (),
        }
        words = self.words or ("default",)
        chosen = {name for word in words for name in general.get(word, (word,))}
        return frozenset(chosen.difference(self.ignored))


@dataclass(frozen=True, slots=True)
class CheckedText:
    """A file, or what came by the standard input."""

    path: Path
    text: str

    @property
    def name(self) -> str:
        return "stdin" if str(self.path) == STDIN else str(self.path)


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, allow_dash=True))
@semantics_option
@click.option(
    "--lint", "words", multiple=True, metavar="NAME,...", callback=_lint_words,
    help="Lints of rules: default, all, none, or some by name; repeatable.  [default: default]",
)  # fmt: skip
@click.option(
    "--lint-fatal/--no-lint-fatal", "lint_fatal", default=True, show_default=True,
    help="Exit with 3 when there is nothing but lints or warnings, or with 0.",
)  # fmt: skip
@click.option(
    "--ignore", "ignored", multiple=True, type=click.Choice(NAMED), metavar="NAME",
    help="Leave out the warnings or lints of this name, for what is meant so.  [default: none]",
)  # fmt: skip
@click.option(
    "--live", is_flag=True,
    help="Ask the running agent, too: which rules select no series that it has.",
)  # fmt: skip
@ignore_unknown_option
@click.pass_obj
def check(
    agent: AgentClient,
    files: tuple[Path, ...],
    semantics: "Semantics",
    words: tuple[str, ...],
    lint_fatal: bool,
    ignored: tuple[str, ...],
    live: bool,
    ignore_unknown: bool,
) -> None:
    """Check FILES: rule files, rule unit tests or configurations, recognised by their keys.

    Without FILES, check our own packs of rules; - is the standard input. Every problem is reported
    with file, line and column. Exit code 3 means lint only, or a valid configuration that pages
    nobody; notes do not change the exit code. For the rules of a configuration, its own
    promql.semantics holds.
    """
    from tocsin_alerting.bundled import rule_packs

    ours = (Path(path) for pack in rule_packs().values() for path in sorted(glob(pack)))
    chosen = files or tuple(ours)
    asked = None
    if live:
        from tocsin_alerting.cli.live import LiveAgent

        asked = LiveAgent(agent, chosen, semantics, ignore_unknown)
    options = CheckOptions(semantics, words, ignored, asked, ignore_unknown)
    with _without_collector():
        worst = max((_check(path, options) for path in chosen), key=(0, LINT, FAILED).index)
    raise SystemExit(0 if worst == LINT and not lint_fatal else worst)


@contextmanager
def _without_collector() -> Iterator[None]:
    """What is read is kept to the end, and to look for garbage in it takes as long as to read it:
    a file has 16 MB at most."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class InvalidTexts(Exception):
    """What is wrong with templates of messages, by file and line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems)
        self.problems = problems


Checked = tuple[str, list[str]]
"""What is in a file that is right, and the lints."""


def _check(path: Path, options: CheckOptions) -> int:
    from tocsin_alerting.yaml_document import InvalidDocument, parse

    print(f"Checking {'standard input' if str(path) == STDIN else path}")
    try:
        given = CheckedText(path, _text(path))
        document = parse(given.text, given.name)
        kind = _kind(document.data)
        summary, lints = kind(given, document, options)
    except (InvalidDocument, InvalidTexts) as error:
        print(f"  FAILED: {count(len(error.problems), 'problem')}", file=sys.stderr)
        _print(map(str, error.problems))
        return FAILED
    left_out = tuple(f" ({name})" for name in options.ignored)
    lints = [lint for lint in lints if not lint.endswith(left_out)]
    word = "warning" if kind is _configuration else "lint"
    print(f"  SUCCESS: {summary}" + (f", {count(len(lints), word)}" if lints else ""))
    _print(_first(lints, word))
    return LINT if lints else 0


def _first(lints: Iterable[str], word: str) -> Iterator[str]:
    """Of each name, which stands at the end, the first; how many there are besides comes last."""
    told = Counter[str]()
    for lint in lints:
        name = lint.rpartition(" (")[2].removesuffix(")") if lint.endswith(")") else ""
        told[name] += 1
        if told[name] <= _MOST_OF_A_NAME:
            yield f"{lint} ({word})"
    for name, times in told.items():
        if times > _MOST_OF_A_NAME:
            yield f"{times - _MOST_OF_A_NAME:,} more of {name or 'these'} are not shown"


def _text(path: Path) -> str:
    from tocsin_alerting.yaml_document import MAX_BYTES, InvalidDocument, Problem, read_text

    if str(path) != STDIN:
        return read_text(str(path))
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    try:
        if len(data) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES:,} bytes; split it")
        return "\n".join(data.decode().splitlines())
    except ValueError as error:
        why = "not text in UTF-8" if isinstance(error, UnicodeError) else str(error)
        raise InvalidDocument([Problem("stdin", 1, 1, why)]) from None


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(f"  {line}", file=sys.stderr)


Kind = Callable[[CheckedText, "Document", CheckOptions], Checked]


def _kind(data: Any) -> Kind:
    """By the first key that is known or nearly so."""
    from tocsin_alerting.rules.rule_file import groups_root

    keys = set(data) if isinstance(data, dict) else set()
    if groups_root(data):
        return _rules
    for telling in _TELLING:
        if telling in keys:
            return _TELLING[telling]
    from tocsin_alerting.config.config import Config  # takes as long as 10,000 rules

    kinds: Mapping[str, Kind] = {**dict.fromkeys(Config.model_fields, _configuration), **_TELLING}
    if sure := keys & set(kinds):
        return kinds[min(sure)]
    near = (get_close_matches(key[:100], kinds, n=1, cutoff=0.6) for key in sorted(keys)[:100])
    return next((kinds[candidate[0]] for candidate in near if candidate), _unclear)


def _unclear(_: CheckedText, document: "Document", __: CheckOptions) -> Checked:
    """None of its keys says what it is to be."""
    from tocsin_alerting.rules.yaml_reader import kind_name
    from tocsin_alerting.yaml_document import InvalidDocument

    others = "unit tests (`tests`) and a configuration (`receivers`, `rule_files`, ...)"
    if document.data in (None, {}):
        return f"nothing in it, which is right for a rule file (`groups`), {others}", []
    if isinstance(document.data, dict):
        problem = f"no key of a rule file (`groups`), {others}; add the one that is meant"
    else:
        problem = f"a rule file must be a mapping, not {kind_name(document.data)}; so must {others}"
    raise InvalidDocument([document.problem((), problem)])


def _configuration(given: CheckedText, document: "Document", options: CheckOptions) -> Checked:
    from tocsin_alerting.agent_access import access_words
    from tocsin_alerting.config.calendars import calendar_reader
    from tocsin_alerting.config.elsewhere import stray_entries
    from tocsin_alerting.config.link_reach import resolves_in_time
    from tocsin_alerting.config.load import incident_config, load
    from tocsin_alerting.config.oncall_lint import policy_notes
    from tocsin_alerting.config.paging import nobody_paged, notes, refused_webhooks, warnings
    from tocsin_alerting.config.way_lint import advice
    from tocsin_alerting.notify.secret import Vault
    from tocsin_alerting.startup import rule_files
    from tocsin_alerting.yaml_document import InvalidDocument, file_text

    if str(given.path) == STDIN:
        problem = "a configuration names files beside it; give the path of its own"
        raise InvalidDocument([document.problem((), problem)])
    config = load(given.path)  # when it is wrong, this tells what is wrong in its rule files too
    files, wrong = check_templates(config)
    if wrong:
        raise InvalidTexts([_at_its_key(problem, config, document) for problem in wrong])
    vault = Vault(os.environ, file_text)
    receivers = count(len(config.receivers), "receiver")
    policies = count(len(config.policies), "policy", "policies")
    rules = rule_files(config, options.ignore_unknown)
    summary = f"{receivers}, {policies}, {count(len(rules), 'rule file')}"
    summary += f", {count(files, 'template')}" if files else ""
    on_policies = [] if nobody_paged(config) else policy_notes(incident_config(config))
    exposed = access_words(config, ())
    said = filter(None, (*notes(config, resolves=resolves_in_time), *on_policies, exposed))
    _print(f"{note} (note)" for note in said)
    now_ms = int(time.time() * 1000)  # noqa: TID251  (the command line's own clock)
    reader = calendar_reader(config, keep=False)
    calendars = reader.read(now_ms)
    refused = refused_webhooks(config, vault)
    placed = {text: _at_its_url(name, text, document) for name, text in refused.items()}
    warned = [placed.get(text, text) for text in warnings(config, vault, now_ms, calendars)]
    groups = [group for file in rules for group in file.groups]
    paging = [*reader.problems, *warned, *stray_entries(config.group_datasources, groups)]
    advised = [f"{text} ({name})" for name, text in advice(config, vault, now_ms, calendars)]
    return summary, [*paging, *advised, *_lost_addressees(given.path, config)]


def _at_its_key(problem: "TemplateProblem", config: "Config", document: "Document") -> str:
    """What is wrong with the directory itself is wrong where the configuration names it."""
    if problem.path != str(config.templates):
        return str(problem)
    return str(document.problem(("templates",), f"templates: {problem}; correct the path"))


def _at_its_url(name: str, text: str, document: "Document") -> str:
    section = document.data["receivers"][name]
    key = next((key for key in ("url", "url_file", "url_env") if key in section), "type")
    return str(document.problem(("receivers", name, key), text))


def _lost_addressees(path: Path, config: "Config") -> Iterator[str]:
    """Incidents that run now and tell somebody who is not in this file."""
    from tocsin_alerting.config.load import incident_config
    from tocsin_alerting.incidents.journal.sqlite import open_incidents
    from tocsin_alerting.incidents.readdressing import (
        current_policy,
        lost_recipients,
        recipient_names,
    )

    settings = incident_config(config)
    for incident in open_incidents(Path(config.storage.path) / "incidents.db"):
        if lost := lost_recipients(incident, settings):
            first = current_policy(incident, settings).steps[0].notify
            yield (
                f"{path}: incident #{incident.number} [{incident.severity.value}] is running and"
                f" tells {recipient_names(lost)}, not in this file; with it, its first step tells"
                f" {recipient_names(first)}"
            )


def _tests(given: CheckedText, _: "Document", options: CheckOptions) -> Checked:
    from tocsin_alerting.incident_test.file_run import check_file

    tests = check_file(given.text, given.name, options.semantics)
    return f"{count(tests, 'unit test')} found; `alertctl test` runs them", []


def _rules(given: CheckedText, document: "Document", options: CheckOptions) -> Checked:
    from tocsin_alerting.promql.parser.types import refuse_unsupported
    from tocsin_alerting.rules.lint import NO_RULES, lint
    from tocsin_alerting.rules.rule_file import groups_root, read_document

    file = read_document(document, refuse_unsupported, options.semantics, options.ignore_unknown)
    rules = sum(len(group.rules) for group in file.groups)
    if not (rules or options.words or "no-rules" in options.ignored):
        _print([f"{document.problem((), NO_RULES)} (note)"])
    chosen, root = options.lints(), groups_root(document.data)
    lints: list[Lint] = []
    if chosen:
        agent = options.agent
        types = {**metric_types(), **(agent.types if agent else {})}
        lints += lint(document, file.groups, chosen, types, root)
        if agent:
            lints += agent.lints(document, file.groups, chosen, root)
    return f"{count(rules, 'rule')} found", [str(lint) for lint in sorted(lints)]


def metric_types() -> dict[str, str]:
    """What the metrics are that Tocsin itself exports."""
    from tocsin_exporter.catalogue import TABLES

    return {name: family.type for table in TABLES.values() for name, family in table.items()}


_TELLING: Mapping[str, Kind] = {"groups": _rules, "tests": _tests}
"""The keys that say of a file what it is, whatever else is in it."""
