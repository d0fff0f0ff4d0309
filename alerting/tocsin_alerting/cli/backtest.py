"""`alertctl backtest`: what rules would have said of a time that has passed."""

import io
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tocsin_alerting.cli import output, times
from tocsin_alerting.cli.check import semantics_option
from tocsin_alerting.cli.client import FAILED, AgentClient, fail
from tocsin_alerting.cli.test import quiet_logs
from tocsin_alerting.cli.times import FORMS, duration, time_range
from tocsin_exporter.files import open_file

if TYPE_CHECKING:
    from tocsin_alerting.backtest.history import InputSeries
    from tocsin_alerting.backtest.report import Judgement, RuleReport
    from tocsin_alerting.backtest.run import Backtest, BacktestResult
    from tocsin_alerting.config.config import Config
    from tocsin_alerting.promql.parser.signatures import Semantics
    from tocsin_alerting.rules.rule import RuleGroup

_NEVER = "never"
_MOST_EVALUATIONS = 20_000_000  # of one rule, each of which takes 8 bytes and more


def _duration_ms(context: click.Context, param: click.Parameter, text: str | None) -> int | None:
    if text is None or text == _NEVER:
        return None
    try:
        return round(duration(text) * 1000)
    except ValueError:
        raise click.BadParameter(f'"{text}" is not a duration; write 30s, 5m or 1h') from None


def _interval_ms(context: click.Context, param: click.Parameter, text: str | None) -> int | None:
    interval_ms = _duration_ms(context, param, text)
    if text is not None and not interval_ms:
        raise click.BadParameter(f'"{text}" is no time between evaluations; write 5s or 1m')
    return interval_ms


def _score_limit(
    context: click.Context, param: click.Parameter, score: float | None
) -> float | None:
    """NaN is neither above 0 nor below 1: no rule would be noisier, and CI would always pass."""
    if score is not None and math.isnan(score):
        raise click.BadParameter("a number from 0 to 1 is needed")
    return score


@click.command(epilog="Example: alertctl backtest my-rules.yml --since 7d --what-if")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--config.file", "config_file", type=click.Path(path_type=Path),
    help="Configuration with policies, and rules without FILES.  [default: built-in]")  # fmt: skip
@click.option("--since", metavar="DURATION",
    help="How far back from --end: 6h, 1d, 2w.  [default: 1d]")  # fmt: skip
@click.option("--start", metavar="TIME", help=f"Start time: {FORMS}.")
@click.option("--end", metavar="TIME", help="End time, in the forms of --start.  [default: now]")
@click.option("--interval", metavar="DURATION", callback=_interval_ms,
    help="Time between evaluations of groups that name none."
    "  [default: evaluation_interval of the configuration]")  # fmt: skip
@click.option("--samples", "samples_file", metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Read samples from this file instead: OpenMetrics with timestamps, or what promtool"
    " tsdb dump prints.  [default: the store of the agent or Prometheus at --url]")  # fmt: skip
@click.option("--labels", "labels_file", metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="CSV of real incidents (start,end,alertname,real), for precision and recall."
    "  [default: incidents that people marked as false alarms]")  # fmt: skip
@click.option("--what-if", "with_what_if", is_flag=True,
    help="Show each rule that fires with other thresholds and another `for`.")  # fmt: skip
@click.option("--ack-after", metavar="DURATION", default="5m", show_default=True,
    callback=_duration_ms, help="How soon a page is acknowledged; never: nobody does.")  # fmt: skip
@click.option("--svg", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Write a timeline of firings and pages to this file.  [default: none]")  # fmt: skip
@click.option("--max-noise", type=click.FloatRange(0, 1), metavar="SCORE", callback=_score_limit,
    help="Exit with 1 if any rule is noisier than this, from 0 to 1.  [default: none]")  # fmt: skip
@semantics_option
@output.format_option
@click.pass_obj
def backtest(
    agent: AgentClient,
    files: tuple[Path, ...],
    config_file: Path | None,
    since: str | None,
    start: str | None,
    end: str | None,
    interval: int | None,
    samples_file: Path | None,
    labels_file: Path | None,
    with_what_if: bool,
    ack_after: int | None,
    svg: Path | None,
    max_noise: float | None,
    semantics: "Semantics",
    format: str,
) -> None:
    """Replay rules over the past: what would have fired, and who would have been paged.

    The noise of a rule is 0.5 of the share of its firings that were over within 2 minutes, 0.3 of
    the share that fired again within 30 minutes of the last end, and 0.2 of the share of false
    alarms; without judged incidents the first two count 0.625 and 0.375.
    """
    from tocsin_alerting.backtest.run import Backtest

    quiet_logs()
    now = time.time()  # noqa: TID251  (the reader's own clock)
    try:
        window = time_range(start, end, since or (None if start else "1d"), now)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--start, --end or --since") from None
    config, groups = _rules(config_file, files, semantics)
    within = round(window.start * 1000), round(window.end * 1000)
    job = Backtest(config, groups, within, interval or config.evaluation_interval, semantics)
    series = _file_samples(samples_file) if samples_file else _agent_samples(agent, job)
    if samples_file and not (start or end or since):
        job.within = _span(series)
    _check_length(job)
    judgement = _judgement(None if samples_file else agent, labels_file, job.within)
    with _bar("evaluating rules", job.rule_count) as progress:
        result = job.run(series, judgement, ack_after, progress)
    if with_what_if:
        with _bar("other thresholds", len(result.fired)) as progress:
            result.add_what_ifs(progress)
    if svg is not None:
        _write(svg, result.svg())
    if not output.as_data(result.to_json(), format):
        show(result, format)
    noisy = [r for r in result.reports if max_noise is not None and (r.noise or 0) > max_noise]
    for report in noisy:
        print(f"{report.rule}: noise {report.noise:.2f} is above {max_noise:g}", file=sys.stderr)
    raise SystemExit(FAILED if noisy else 0)


def _rules(
    config_file: Path | None, files: Sequence[Path], semantics: "Semantics"
) -> "tuple[Config, list[RuleGroup]]":
    from tocsin_alerting.config.load import load
    from tocsin_alerting.promql.parser.types import refuse_unsupported
    from tocsin_alerting.rules.rule_file import load as load_rules
    from tocsin_alerting.startup import rule_files
    from tocsin_alerting.yaml_document import InvalidDocument

    try:
        config = load(config_file)
        paths = [str(path) for path in files]
        loaded = load_rules(paths, refuse_unsupported, semantics) if files else rule_files(config)
    except InvalidDocument as error:
        print(error, file=sys.stderr)
        raise SystemExit(FAILED) from None
    return config, [group for file in loaded for group in file.groups]


def _file_samples(path: Path) -> "InputSeries":
    from tocsin_alerting.backtest.samples_file import InvalidSamples, read_samples

    try:
        return read_samples(path)
    except InvalidSamples as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot read {path}: {error.strerror}")


def _agent_samples(agent: AgentClient, job: "Backtest") -> "InputSeries":
    from tocsin_alerting.cli.past_samples import asked_selectors, fetched

    with _bar("reading samples", len(asked_selectors(job.groups))) as progress:
        return fetched(agent, job.groups, job.needs, progress)


def _span(series: "InputSeries") -> tuple[int, int]:
    """From the first sample to the last."""
    import numpy as np

    axes = [times for times, _ in series.values() if len(times)]
    return int(min(map(np.min, axes))), int(max(map(np.max, axes)))


def _check_length(job: "Backtest") -> None:
    """One sample with a wrong time makes a backtest of decades, for which no memory is enough."""
    shortest = min((group.interval_ms or job.interval_ms for group in job.groups), default=1)
    start_ms, end_ms = job.within
    if job.groups and (end_ms - start_ms) // shortest > _MOST_EVALUATIONS:
        start, end = (times.date_and_clock(at_ms) for at_ms in job.within)
        fail(
            f"from {start} to {end} a rule has more than {_MOST_EVALUATIONS:,} evaluations;"
            " give a shorter time with --start and --end, or correct the times of the samples"
        )


def _judgement(
    agent: AgentClient | None, labels: Path | None, within: tuple[int, int]
) -> "Judgement":
    """What the file says, else what people said to the agent (None: it is not asked)."""
    from tocsin_alerting.backtest.labels_file import InvalidJudgement, read_labels
    from tocsin_alerting.backtest.report import Judgement
    from tocsin_alerting.cli.past_samples import false_alarms

    if labels is None:
        return Judgement(false_alarms(agent, within) if agent else ())
    try:
        with io.TextIOWrapper(open_file(labels), encoding="utf-8-sig", newline="") as lines:
            return Judgement(read_labels(lines, str(labels)), complete=True)
    except InvalidJudgement as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot read {labels}: {error.strerror}")
    except UnicodeDecodeError:
        fail(f"{labels}:1:1: not text in UTF-8; save it as UTF-8")


@contextmanager
def _bar(what: str, count: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal, which is told how much is done."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    with click.progressbar(length=count, label=what, file=sys.stderr) as bar:
        yield lambda done: bar.update(done - bar.pos)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror}")


_COLUMNS = (
    "RULE",
    "SEV",
    "FIRED",
    "INCIDENTS",
    "PAGES",
    "MEDIAN",
    "<2M",
    "FLAPS",
    "PREC",
    "RECALL",
    "NOISE",
)
_GIVE_WAY = ("INCIDENTS", "RECALL", "PREC")
"""What a narrow terminal does without, in this order."""


def show(result: "BacktestResult", format: str) -> None:
    """The rules that fired or failed, who would have been called when, and other settings."""
    shown = [one for one in result.reports if one.fired or one.failures]
    columns = output.width(format)
    header, rows = _fitting([_row(one) for one in shown], columns)
    output.table(header, rows, "no rule would have fired", columns)
    quiet = len(result.reports) - len(shown)
    start, end = (times.date_and_clock(at_ms) for at_ms in result.within)
    pages, incidents = len(result.log.pages), len(result.log.rules)
    text = (
        f"{output.count(incidents, 'incident')}, {output.count(pages, 'page')}"
        f" from {start} to {end}; {output.count(quiet, 'rule')} did not fire"
    )
    output.wrapped(text, columns or 200)
    if rows and (left_out := [name for name in _COLUMNS if name not in header]):
        output.wrapped(f"-o wide shows {', '.join(left_out)} as well", columns or 200)
    if result.real:
        output.wrapped(_found(result), columns or 200)
    _show_hours(result.hours())
    for one in shown:
        if one.failures:
            failed = f"{one.rule}: {output.count(one.failures, 'evaluation')} failed"
            output.wrapped(f"{failed}: {one.last_error}", columns or 200)
    for one in shown:
        if one.what_if:
            print(f"\n{one.rule} {one.severity}".rstrip())
            output.table(["WHAT IF", "FIRED", "<2M", "FIRING"], _what_if_rows(one), "", columns)


def _found(result: "BacktestResult") -> str:
    """How many of the labelled incidents some rule fired in, and the first that none did."""
    missed, of = result.missed, len(result.real)
    text = f"{of - len(missed)} of {output.count(of, 'labelled incident')} had an alert"
    named = [f"{times.date_and_clock(one.start_ms)} {one.alertname}".rstrip() for one in missed[:5]]
    more = f" and {len(missed) - 5} more" if len(missed) > 5 else ""
    return f"{text}; not found: {', '.join(named)}{more}" if named else text


def _fitting(
    rows: Sequence[Sequence[str]], columns: int | None
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """The table without the columns that do not fit, so that names stay whole."""
    cells = [list(row) for row in (_COLUMNS, *rows)]
    for name in _GIVE_WAY:
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        if columns and sum(widths) + 2 * (len(widths) - 1) > columns:
            at = cells[0].index(name)
            cells = [row[:at] + row[at + 1 :] for row in cells]
    return cells[0], cells[1:]


def _row(one: "RuleReport") -> list[str]:
    pages = " ".join(f"{severity}:{count}" for severity, count in sorted(one.pages.items()))
    still = f" ({one.still_firing} still)" if one.still_firing else ""
    return [
        one.rule, one.severity or "-", f"{one.fired}{still}", str(one.incidents), pages or "-",
        "-" if one.median_ms is None else times.span(one.median_ms),
        str(one.short), str(one.flaps),
        _score(one.precision), _score(one.recall), _score(one.noise),
    ]  # fmt: skip


def _what_if_rows(one: "RuleReport") -> list[list[str]]:
    return [
        [row.change, str(row.fired), str(row.short), times.span(row.firing_ms)]
        for row in one.what_if
    ]


def _show_hours(hours: "Mapping[str, Sequence[int]]") -> None:
    """A line a severity: a digit an hour, + for more than nine."""
    if hours:
        print(f"\nPages by hour, {times.zone_name(0)}: 0     6     12    18")
    for severity, row in hours.items():
        cells = "".join("." if not n else str(n) if n < 10 else "+" for n in row)
        print(f"  {severity}: {sum(row):>4}  {cells}")


def _score(score: float | None) -> str:
    return "-" if score is None else f"{score:.2f}"
