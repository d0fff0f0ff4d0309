"""The agent beside a real Prometheus 2.42: the same rule files, the same samples, real time.

Samples come by remote write to both, at the same moments. The rules are changed twice by a reload
of both, and the agent is killed twice. What both recorded and said of alerts at each evaluation is
compared.
Run as a program: `prometheus_hour.py [MINUTES [FOLDER]]`; it prints figures and every difference.
"""

import asyncio
import json
import math
import shutil
import struct
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest does; this is also a program

from support.agent_process import AgentProcess
from support.prometheus import Prometheus, running_prometheus
from support.remote_write import remote_write
from tocsin_alerting.rules.group_phase import phase_ms
from tocsin_exporter.snapshot import Labels, labels

AGENT = """
collect: {host: 0s, engines: 0s, gpu: 0s, processes: 0s}
instance: box
promql: {semantics: 2}
external_labels: {cluster: hour}
rule_files: ["FILE"]
receivers: {none: {type: log}}
"""
PROMETHEUS = 'global: {external_labels: {cluster: hour}}\nrule_files: ["FILE"]\n'
RULES = """
groups:
- name: STATES
  interval: {1}s
  rules:
  - alert: Flip
    expr: sig{{kind="flip"}} > 50
    for: {4}s
    labels:
      severity: none
      size: '{{{{ if gt $value 80.0 }}}}big{{{{ else }}}}small{{{{ end }}}}'
    annotations:
      summary: >-
        {{{{ $labels.id }}}} is at {{{{ $value | humanize }}}} of {{{{ $externalLabels.cluster }}}}
      first: >-
        {{{{ with query "sig" }}}}{{{{ . | sortByLabel "id" | first | value }}}}{{{{ end }}}}
  - alert: FlipNow
    expr: sig{{kind="flip"}} > 70
    labels: {{severity: none}}
    annotations: {{summary: '{{{{ $value }}}}|{{{{ $value | humanizeDuration }}}}'}}
  - alert: Keep
    expr: sig{{kind="flip"}} > 60
    keep_firing_for: {6}s
    labels: {{severity: none}}
  - alert: Bucket
    expr: round(sig{{kind="flip"}}, 25) >= 25
    labels: {{severity: none, to: '{{{{ $value }}}}'}}
  - alert: Mover
    expr: sig{{kind="slow"}} > 10
    for: {20}s
    labels: {{severity: none}}
- name: RECORDED
  interval: {2}s
  rules:
  - record: id:sig:avg
    expr: avg by (id) (avg_over_time(sig[{8}s]))
    labels: {{via: rule}}
  - record: id:sig:max
    expr: max_over_time(id:sig:avg[{8}s])
  - alert: RecordedHigh
    expr: id:sig:avg > 45
    for: {2}s
    labels: {{severity: none}}
    annotations: {{summary: '{{{{ $value }}}}'}}
- name: ALERTSREAD
  interval: {2}s
  rules:
  - alert: Many
    expr: count by (alertname) (ALERTS{{alertstate="firing",alertname=~"Flip.*"}}) > 1
    labels: {{severity: none}}
    annotations: {{summary: '{{{{ $value }}}}'}}
  - alert: Long
    expr: count_over_time(ALERTS{{alertstate="firing",alertname="Flip"}}[{8}s:{2}s]) > 2
    labels: {{severity: none}}
    annotations: {{summary: '{{{{ $value }}}}'}}
- name: ABSENCES
  interval: {3}s
  rules:
  - alert: Gone
    expr: absent(sig{{id="comes"}})
    for: {3}s
    labels: {{severity: none}}
"""
MOVER = RULES[RULES.index("  - alert: Mover") : RULES.index("- name: RECORDED")]
SETTLES = 12  # units, after a restart: what reads ALERTS looks 8 back, and is first evaluated later
STALE: float = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
NAMES = "ALERTS|ALERTS_FOR_STATE|id:.*"


@dataclass(frozen=True)
class Pace:
    """`unit_s` is the shortest interval of a group; all else is in units, from the begin: the
    reloads, the kills with for how long the agent is away, and how long it lasts at least."""

    unit_s: int
    reloads: tuple[float, ...]
    kills: tuple[tuple[float, float], ...]
    lasts: float


HOUR = Pace(5, (168, 456), ((264, 8 / 5), (552, 8)), 720)
SECONDS = Pace(2, (7,), ((11, 0),), 0)


def scaled(text: str, unit_s: int) -> str:
    """`{4}s` is four units."""
    return text.format(*(unit_s * number for number in range(21)))


def rule_text(file: Path, unit_s: int) -> str:
    """The groups are called so that each runs in the last half of a unit: the samples of its begin
    are there by then."""
    text = scaled(RULES, unit_s)
    for place, units in {"STATES": 1, "RECORDED": 2, "ALERTSREAD": 2, "ABSENCES": 3}.items():
        names = (f"{place.lower()}-{number}" for number in range(1000))
        text = text.replace(f"name: {place}", f"name: {_late(file, names, unit_s, units)}")
    return text


def _late(file: Path, names: Iterator[str], unit_s: int, units: int) -> str:
    return next(
        name
        for name in names
        if 0.5 < phase_ms(str(file), name, units * unit_s * 1000, 2) / 1000 / unit_s % 1 < 0.9
    )


def reloaded(text: str, number: int, unit_s: int) -> str:
    """First another `for` and text; then one rule is new, one is gone, and one moves."""
    if number == 0:
        return text.replace(f"for: {4 * unit_s}s", f"for: {8 * unit_s}s").replace(
            "is at", "stands at"
        )
    mover = scaled(MOVER, unit_s)
    lines = text.replace(mover, "").rstrip("\n") + "\n" + mover
    gone = lines[lines.index("  - alert: FlipNow") : lines.index("  - alert: Keep")]
    new = gone.replace("FlipNow", "Added")
    return lines.replace(gone, new)


def signals(at_s: float, unit_s: int) -> Iterator[tuple[Labels, float | None]]:
    """The samples of a moment; None for a series that is not there."""
    for number, period in enumerate((19, 29, 42, 61, 80)):
        value = 50 + 45 * math.sin(2 * math.pi * at_s / period / unit_s) + 3 * number
        yield labels(__name__="sig", id=f"f{number}", kind="flip"), round(value, 3)
    for number, period in enumerate((70, 110)):
        high = at_s % (period * unit_s) < 0.6 * period * unit_s
        yield labels(__name__="sig", id=f"s{number}", kind="slow"), 20.0 if high else 5.0
    there = at_s % (60 * unit_s) < 30 * unit_s
    yield labels(__name__="sig", id="comes", kind="comes"), 1.0 if there else None


@dataclass
class Beside:
    """Both, with what is said of them. `away` are the spans in which the agent was down or had yet
    to catch up, `late` the moments whose samples one of them got too late to evaluate them."""

    folder: Path
    pace: Pace
    agent: AgentProcess
    server: Prometheus
    say: Callable[[str], None]
    began_s: float = field(default_factory=time.time)
    away: list[tuple[float, float]] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    polls: list[tuple[Any, Any]] = field(default_factory=list)
    empty: int = 0
    answers: int = 0

    @property
    def file(self) -> Path:
        return self.folder / "rules.yml"

    def left_out(self, at_s: float) -> bool:
        unit_s = self.pace.unit_s
        return any(begin <= at_s <= end for begin, end in self.away) or any(
            0 <= at_s - one < 2 * unit_s for one in self.late
        )

    async def feed(self) -> None:
        unit_s, there = self.pace.unit_s, set[Labels]()
        at_s = (time.time() // unit_s + 1) * unit_s
        queues = [asyncio.Queue[Any](), asyncio.Queue[Any]()]
        urls = self.agent.url, self.server.url
        async with asyncio.TaskGroup() as tasks:
            for url, queue in zip(urls, queues, strict=True):
                tasks.create_task(self._push(url, queue))
            while True:
                await _until(at_s)
                rows = list(signals(at_s, unit_s))
                now = {one for one, value in rows if value is not None}
                stale = [(one, STALE) for one in there - now]
                there = now
                written = [(o, v) for o, v in rows if v is not None] + stale
                series = [(one, [(round(1000 * at_s), value)]) for one, value in written]
                for queue in queues:
                    queue.put_nowait((at_s, series))
                at_s += unit_s

    async def _push(self, url: str, queue: asyncio.Queue[Any]) -> None:
        """As a Prometheus does: again until it is taken, in order."""
        while True:
            at_s, series = await queue.get()
            while True:
                with suppress(OSError):
                    await asyncio.to_thread(remote_write, url, series)
                    break
                await asyncio.sleep(0.2)
            if time.time() - at_s > 0.4 * self.pace.unit_s:
                self.late.append(at_s)

    async def poll(self) -> None:
        while True:
            with suppress(OSError):
                both = await asyncio.gather(
                    *(asyncio.to_thread(_rules, url) for url in (self.agent.url, self.server.url))
                )
                self.polls.append((both[0], both[1]))
            await asyncio.sleep(self.pace.unit_s / 2)

    async def reload(self, number: int) -> None:
        await _until(self.began_s + self.pace.reloads[number] * self.pace.unit_s)
        fresh = self.file.with_suffix(".new")
        fresh.write_text(reloaded(self.file.read_text(), number, self.pace.unit_s))
        fresh.replace(self.file)
        for url in (self.agent.url, self.server.url):
            await asyncio.to_thread(_post, f"{url}/-/reload")
        now_s = time.time()
        self.away.append((now_s - 1, now_s + 3 * self.pace.unit_s))  # all groups have run by then
        self.say(f"reload {number + 1}")

    async def kill(self, number: int) -> None:
        at, units = self.pace.kills[number]
        await _until(self.began_s + at * self.pace.unit_s)
        shown = await asyncio.to_thread(_alerts, self.agent.url)
        self.agent.kill()
        gone_s = time.time()
        await _until(gone_s + units * self.pace.unit_s)
        watcher = asyncio.create_task(self._first_answers(bool(shown)))
        await asyncio.to_thread(self.agent.start)
        await watcher
        back_s = time.time()
        self.away.append((gone_s - self.pace.unit_s, back_s + SETTLES * self.pace.unit_s))
        self.say(f"killed, away for {back_s - gone_s:.1f} s")

    async def _first_answers(self, expects: bool) -> None:
        """None of them may say that nothing fires."""
        until_s, answered = time.time() + 120, 0
        while answered < 20 and time.time() < until_s:
            with suppress(OSError):
                found = await asyncio.to_thread(_alerts, self.agent.url)
                answered += 1
                self.answers += 1
                self.empty += expects and not found
            await asyncio.sleep(0.05)


async def _until(at_s: float) -> None:
    await asyncio.sleep(max(0.0, at_s - time.time()))


def _post(url: str) -> None:
    urllib.request.urlopen(urllib.request.Request(url, b"", method="POST"), timeout=20).close()


def _get(url: str, form: Mapping[str, str] | None = None) -> Any:
    with urllib.request.urlopen(
        url, urlencode(form).encode() if form else None, timeout=60
    ) as answer:
        return json.load(answer)["data"]


def _rules(url: str) -> Any:
    return _get(f"{url}/api/v1/rules")["groups"]


def _alerts(url: str) -> list[Any]:
    return list(_get(f"{url}/api/v1/alerts")["alerts"])


Series = dict[tuple[tuple[str, str], ...], dict[float, str]]


def stored(url: str, back_s: float) -> Series:
    """What the rules wrote. A query does not show stale markers: their moments have no sample."""
    found = _get(f"{url}/api/v1/query", {"query": f'{{__name__=~"{NAMES}"}}[{math.ceil(back_s)}s]'})
    return {
        tuple(sorted(one["metric"].items())): {float(at): value for at, value in one["values"]}
        for one in found["result"]
    }


def samples_that_differ(both: Beside) -> tuple[int, list[str]]:
    """Of each evaluation of both: how many are equal, and which are not."""
    begin_s = both.began_s + 6 * both.pace.unit_s  # both have run all groups by then
    back_s = time.time() - both.began_s + 60
    until_s = time.time() - 2 * both.pace.unit_s
    ours, theirs = stored(both.agent.url, back_s), stored(both.server.url, back_s)
    same, differ = 0, list[str]()
    for series in ours.keys() | theirs.keys():
        one, other = ours.get(series, {}), theirs.get(series, {})
        for at_s in sorted(one.keys() | other.keys()):
            if (
                not begin_s < at_s < until_s
                or both.left_out(at_s)
                or _since_away(both, series, other, one, at_s)
            ):
                continue
            if one.get(at_s) == other.get(at_s):
                same += 1
            else:
                values = f"{one.get(at_s)}, there {other.get(at_s)}"
                differ.append(f"{at_s - both.began_s:.3f} s: {dict(series)}: {values}")
    return same, differ


def _since_away(
    both: Beside, series: Any, one: Mapping[float, str], other: Mapping[float, str], at_s: float
) -> bool:
    """What waited through an outage of the agent waits longer by it, and a rule that a reload moves
    waits on with us alone: an alert of that time is another one there until it ends."""
    if not dict(series)["__name__"].startswith("ALERTS"):
        return False
    step_s = 4 * both.pace.unit_s
    begin_s = at_s
    while earlier := [at for at in (*one, *other) if begin_s - step_s <= at < begin_s]:
        begin_s = min(earlier)
    return any(begin_s <= end and at_s >= begin for begin, end in both.away)


def alerts_that_differ(both: Beside) -> tuple[int, list[str]]:
    """What `/api/v1/rules` said after the same evaluation, to the character."""
    same, differ, seen = 0, Counter[str](), set[tuple[str, str]]()
    for ours, theirs in both.polls:
        by_name = {group["name"]: group for group in theirs}
        for group in ours:
            other, key = by_name.get(group["name"]), (group["name"], group["lastEvaluation"])
            if other is None or key in seen or not _same_moment(group, other):
                continue
            seen.add(key)
            if both.left_out(_seconds(group["lastEvaluation"])):
                continue
            for about in _unequal(both, group, other):
                differ[about] += 1
            same += 1
    return same, [f"{count} times: {about}" for about, count in differ.items()]


def _same_moment(ours: Any, theirs: Any) -> bool:
    """A Prometheus says when it began, which is some milliseconds after its slot."""
    moments = ours["lastEvaluation"], theirs["lastEvaluation"]
    if any(moment.startswith("0001") for moment in moments):
        return False
    return -0.01 < _seconds(moments[1]) - _seconds(moments[0]) < 0.5


def _seconds(text: str) -> float:
    whole, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(whole + "+00:00").timestamp() + float(f"0.{fraction or 0}")


def _unequal(both: Beside, ours: Any, theirs: Any) -> Iterator[str]:
    """Without alerts that were there through an outage, or a reload."""
    at_s = _seconds(ours["lastEvaluation"])
    before_s = max((end for _, end in both.away if end < at_s), default=0.0)
    one, other = (_rows(group) for group in (ours, theirs))
    for key in one.keys() | other.keys():
        pair = one.get(key), other.get(key)
        if any(row is not None and _seconds(row["activeAt"]) <= before_s for row in pair):
            continue
        if pair[0] != pair[1]:
            yield f"{key}: {pair[0]}, there {pair[1]}"


def _rows(group: Any) -> dict[str, dict[str, Any]]:
    shown = ("state", "activeAt", "value", "annotations")
    return {
        json.dumps(row["labels"], sort_keys=True): {name: row[name] for name in shown}
        for rule in group["rules"]
        for row in rule.get("alerts", ())
    }


async def beside_a_prometheus(folder: Path, together: asyncio.Barrier) -> list[str]:
    """What differs in the short form, among the stories told together."""
    if shutil.which("prometheus") is None:
        await together.wait()
        pytest.skip("prometheus is not installed")
    wrong, found = await hour(folder, SECONDS, ready=together.wait)
    assert found["samples that are equal"] > 40
    assert found["evaluations of a group that were compared"] > 8
    return wrong


async def at_once() -> None:
    """Nobody is waited for."""


async def hour(
    folder: Path,
    pace: Pace,
    say: Callable[[str], None] = lambda _: None,
    ready: Callable[[], Awaitable[object]] = at_once,
) -> tuple[list[str], dict[str, Any]]:
    """What differs, and the figures; it begins when both run and it is `ready`."""
    file = folder / "rules.yml"
    file.write_text(rule_text(file, pace.unit_s))
    (folder / "tocsin.yml").write_text(AGENT.replace("FILE", str(file)))
    flags = ("--web.enable-remote-write-receiver", "--web.enable-lifecycle")
    config = PROMETHEUS.replace("FILE", str(file))
    agent = AgentProcess(folder, "--config.file=tocsin.yml", "--no-worker")
    with running_prometheus(folder, *flags, config=config) as server, agent:
        await ready()
        both = Beside(folder, pace, agent, server, say)
        both.away.append((0.0, both.began_s))  # they did not start at the same moment
        work = [asyncio.create_task(one) for one in (both.feed(), both.poll())]
        plan = [
            *map(both.reload, range(len(pace.reloads))),
            *map(both.kill, range(len(pace.kills))),
        ]
        await asyncio.gather(*plan)
        last_s = max(end for _, end in both.away) + SETTLES * pace.unit_s
        await _until(max(last_s, both.began_s + pace.lasts * pace.unit_s))
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        return await asyncio.to_thread(judged, both)


def judged(both: Beside) -> tuple[list[str], dict[str, Any]]:
    samples, differ = samples_that_differ(both)
    groups, told = alerts_that_differ(both)
    wrong = [*differ, *told]
    if both.empty:
        wrong.append(f"{both.empty} answers after a start said that nothing fires")
    if "Traceback" in both.agent.said():
        wrong.append("the agent's log has a traceback")
    return wrong, {
        "seconds": round(time.time() - both.began_s),
        "samples that are equal": samples,
        "evaluations of a group that were compared": groups,
        "answers in the first moments after a start": both.answers,
        "moments whose samples came too late to one of both": len(both.late),
        "differences": len(wrong),
    }


def main(minutes: float, folder: Path) -> int:
    def say(line: str) -> None:
        print(line, flush=True)

    say(f"{minutes:g} minutes; logs are in {folder}")
    wrong, found = asyncio.run(hour(folder, paced(minutes), say))
    say(json.dumps(found, indent=2))
    say("\n".join(wrong) or "the same alerts and samples at the same evaluations")
    return 1 if wrong else 0


def paced(minutes: float) -> Pace:
    """The hour's plan in less time."""
    ratio = minutes / 60
    kills = tuple((ratio * at, units) for at, units in HOUR.kills)
    return replace(
        HOUR,
        reloads=tuple(ratio * at for at in HOUR.reloads),
        kills=kills,
        lasts=ratio * HOUR.lasts,
    )


if __name__ == "__main__":
    asked = sys.argv[1:]
    there = Path(asked[1]) if len(asked) > 1 else Path(tempfile.mkdtemp(prefix="hour"))
    sys.exit(main(float(asked[0]) if asked else 60, there))
