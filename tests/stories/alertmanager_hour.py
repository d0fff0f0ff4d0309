"""A real Prometheus and a real vmalert with the agent as their Alertmanager, for an hour.

The agent is restarted twice: once by SIGKILL and at once, once by SIGTERM and away for a while.
Each alert must be paged once and resolved once, not before it is over; what never ends, never.
Run as a program: `alertmanager_hour.py [MINUTES [FOLDER]]`; it prints figures.
"""

import asyncio
import json
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest does; this is also a program

from support.agent_process import AgentProcess, free_port
from support.story import reason
from support.webhook_sink import Received, WebhookSink

SENDERS = {"prometheus": "EpisodeOfPrometheus", "vmalert": "EpisodeOfVmalert"}
STANDING = 3  # of each sender, which never end
AGENT = """
engines: []
rule_files: []
group: {{by: [alertname, id]}}
receivers: {{hook: {{type: webhook, url: "{hook}"}}}}
"""
PROMETHEUS = """
global: {{scrape_interval: {every}, evaluation_interval: {every}}}
rule_files: [prometheus-rules.yml]
scrape_configs: [{{job_name: switches, static_configs: [{{targets: ["127.0.0.1:{switches}"]}}]}}]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["127.0.0.1:{agent}"]}}]}}]}}
"""
RULES = """
groups:
- name: episodes
  rules:
  - alert: {alert}
    expr: switch{{sender="{sender}"}} == 1
    labels: {{severity: {severity}}}
    annotations: {{summary: "{{{{ $labels.id }}}} is on"}}
"""


@dataclass(frozen=True)
class Pace:
    """In seconds. `settle`: what ends so long before the end must be told by then."""

    every: int
    between: float
    shortest: float
    longest: float
    down: float
    settle: float
    severity: str
    flags: tuple[str, ...] = ()


HOUR = Pace(5, 20, 180, 420, 30, 180, "warning")
"""With the defaults of both senders, where what fires is sent again each minute, and of the agent:
P2 waits half a minute, and what is over by then pages nobody."""
MINUTES = Pace(1, 6, 12, 25, 6, 40, "critical", ("--rules.alert.resend-delay=1s",))


@dataclass
class Episode:
    """One alert; `off_s` None: it never ends. Times are Unix seconds."""

    sender: str
    id: str
    on_s: float
    off_s: float | None = None

    @property
    def name(self) -> tuple[str, str]:
        return SENDERS[self.sender], self.id


@dataclass
class Switches:
    """What Prometheus scrapes: a gauge for each alert that is on."""

    on: dict[str, Episode] = field(default_factory=dict)

    def page(self) -> bytes:
        lines = [f'switch{{sender="{e.sender}",id="{e.id}"}} 1' for e in self.on.values()]
        return ("\n".join(["switches 1", *lines]) + "\n").encode()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
            writer.write(head + self.page())
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


@dataclass
class Told:
    """What the receiver was told of an alert: the time of each message, each once by its id."""

    firing: dict[str, float] = field(default_factory=dict)
    resolved: dict[str, float] = field(default_factory=dict)
    other: list[str] = field(default_factory=list)
    doubles: int = 0


def told(requests: list[Received]) -> dict[tuple[str, str], Told]:
    by_name: dict[tuple[str, str], Told] = {}
    seen: set[str] = set()
    for one in requests:
        body, why = one.json(), reason(one)
        labels, key = body["groupLabels"], body["tocsin"]["key"]
        name = labels.get("alertname", why), labels.get("id", "?")
        about = by_name.setdefault(name, Told())
        if key in seen:
            about.doubles += 1
            continue
        seen.add(key)
        if why in ("opened", "resolved"):
            (about.firing if why == "opened" else about.resolved)[key] = one.at
        else:
            about.other.append(why)
    return by_name


def faults(episodes: list[Episode], heard: dict[tuple[str, str], Told]) -> list[str]:
    """What is not as it must be."""
    found = [f"{name}: nobody fired it" for name in heard.keys() - {e.name for e in episodes}]
    for episode in episodes:
        about = heard.get(episode.name, Told())
        expected = 0 if episode.off_s is None else 1
        if len(about.firing) != 1:
            found.append(f"{episode.name}: paged {len(about.firing)} times")
        if len(about.resolved) != expected:
            found.append(f"{episode.name}: resolved {len(about.resolved)} times")
        early = min(about.resolved.values(), default=None)
        if early is not None and (episode.off_s is None or early < episode.off_s):
            found.append(f"{episode.name}: resolved too early")
        if episode.off_s is not None:  # what never ends misses its recovery target
            found += [f"{episode.name}: {why}" for why in about.other]
    return found


def figures(episodes: list[Episode], heard: dict[tuple[str, str], Told]) -> dict[str, Any]:
    every = [(episode, heard.get(episode.name, Told())) for episode in episodes]
    paged = [min(t.firing.values()) - e.on_s for e, t in every if t.firing]
    over = [
        min(t.resolved.values()) - e.off_s for e, t in every if t.resolved and e.off_s is not None
    ]
    return {
        "alerts": len(episodes),
        "never ended": sum(episode.off_s is None for episode in episodes),
        "pages": sum(len(t.firing) for _, t in every),
        "resolved": sum(len(t.resolved) for _, t in every),
        "sent twice with one id": sum(t.doubles for _, t in every),
        "seconds to the page": _spread(paged),
        "seconds to resolved": _spread(over),
    }


def _spread(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    return {"median": round(statistics.median(values), 1), "max": round(max(values), 1)}


@contextmanager
def running(folder: Path, *command: str) -> Iterator[None]:
    with (folder / f"{Path(command[0]).name}.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@asynccontextmanager
async def senders(folder: Path, agent: AgentProcess, pace: Pace) -> AsyncIterator[Switches]:
    """Both of them, and what they look at."""
    switches = Switches()
    server = await asyncio.start_server(switches.serve, "127.0.0.1", 0)
    own, metrics = server.sockets[0].getsockname()[1], free_port()
    every = f"{pace.every}s"
    config = PROMETHEUS.format(every=every, switches=own, agent=agent.port)
    (folder / "prometheus.yml").write_text(config)
    for sender, alert in SENDERS.items():
        rules = RULES.format(sender=sender, alert=alert, severity=pace.severity)
        (folder / f"{sender}-rules.yml").write_text(rules)
    prometheus = [
        str(shutil.which("prometheus")),
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=tsdb",
        f"--web.listen-address=127.0.0.1:{metrics}",
        *pace.flags,
    ]
    vmalert = [
        str(shutil.which("vmalert")),
        "-rule=vmalert-rules.yml",
        f"-datasource.url=http://127.0.0.1:{metrics}",
        f"-notifier.url={agent.url}",
        f"-evaluationInterval={every}",
        f"-httpListenAddr=127.0.0.1:{free_port()}",
    ]
    with ExitStack() as stack:
        stack.enter_context(running(folder, *prometheus))
        stack.enter_context(running(folder, *vmalert))
        yield switches
    server.close()


async def episodes(switches: Switches, pace: Pace, until_s: float, begun: list[Episode]) -> None:
    """Begin and end them in turn, until there is only time left to be told."""
    dice, number = random.Random(4911), 0
    ends: list[tuple[float, Episode]] = []
    for sender in SENDERS:
        begun += [Episode(sender, f"standing-{n}", time.time()) for n in range(STANDING)]
    switches.on |= {episode.id + episode.sender: episode for episode in begun}
    next_s = time.time()
    while time.time() < until_s or ends:
        now = time.time()
        for due_s, episode in list(ends):
            if now >= due_s or now >= until_s:
                del switches.on[episode.id + episode.sender]
                episode.off_s = now
                ends.remove((due_s, episode))
        if next_s <= now < until_s - pace.shortest:
            number += 1
            episode = Episode(list(SENDERS)[number % 2], f"e{number}", now)
            begun.append(episode)
            switches.on[episode.id + episode.sender] = episode
            ends.append((now + dice.uniform(pace.shortest, pace.longest), episode))
            next_s = now + pace.between
        await asyncio.sleep(0.2)


async def restarts(agent: AgentProcess, pace: Pace, began_s: float, lasts_s: float) -> None:
    await _until(began_s + lasts_s / 3)
    await asyncio.to_thread(agent.kill)
    await asyncio.to_thread(agent.start)
    await _until(began_s + 2 * lasts_s / 3)
    await asyncio.to_thread(agent.terminate, signal.SIGTERM)
    await asyncio.sleep(pace.down)
    await asyncio.to_thread(agent.start)


async def _until(at_s: float) -> None:
    await asyncio.sleep(max(0.0, at_s - time.time()))


async def hour(
    folder: Path, minutes: float, pace: Pace, say: Callable[[str], None] = lambda _: None
) -> tuple[list[str], dict[str, Any]]:
    """What was wrong, and the figures."""
    async with WebhookSink() as sink:
        (folder / "tocsin.yml").write_text(AGENT.format(hook=sink.url))
        with AgentProcess(folder, "--config.file=tocsin.yml", "--no-worker") as agent:
            async with senders(folder, agent, pace) as switches:
                began_s, begun = time.time(), list[Episode]()
                lasts_s = 60 * minutes
                await asyncio.gather(
                    episodes(switches, pace, began_s + lasts_s - pace.settle, begun),
                    restarts(agent, pace, began_s, lasts_s),
                    _progress(began_s, lasts_s, begun, sink, say),
                )
                await _until(began_s + lasts_s)
                bodies = [{"at": one.at, **one.json()} for one in sink.requests]
                (folder / "messages.json").write_text(json.dumps(bodies))
                (folder / "alerts.json").write_text(json.dumps(list(map(asdict, begun))))
                heard = told(sink.requests)
                wrong = faults(begun, heard)
                if "Traceback" in agent.said():
                    wrong.append("the agent's log has a traceback")
    return wrong, {"minutes": minutes, **figures(begun, heard)}


async def _progress(
    began_s: float,
    lasts_s: float,
    begun: list[Episode],
    sink: WebhookSink,
    say: Callable[[str], None],
) -> None:
    while (passed := time.time() - began_s) < lasts_s:
        on = sum(episode.off_s is None for episode in begun)
        say(f"{passed:.0f} s: {len(begun)} alerts, {on} on, {len(sink.requests)} messages")
        await asyncio.sleep(min(30.0, lasts_s - passed))


def main(minutes: float, folder: Path) -> int:
    def say(line: str) -> None:
        print(line, flush=True)

    say(f"{minutes:g} minutes; logs are in {folder}")
    pace = HOUR if minutes >= 20 else MINUTES
    wrong, found = asyncio.run(hour(folder, minutes, pace, say))
    say(json.dumps(found, indent=2))
    say("\n".join(wrong) or "no alert lost, none resolved wrongly, each paged once")
    return 1 if wrong else 0


if __name__ == "__main__":
    asked = sys.argv[1:]
    there = Path(asked[1]) if len(asked) > 1 else Path(tempfile.mkdtemp(prefix="hour"))
    sys.exit(main(float(asked[0]) if asked else 60, there))
