"""The whole agent in this process takes what its files say anew, or nothing of it."""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support.alert_events import alert, fires
from support.api_client import api_client
from support.examples import examples
from support.exhausted import no_threads
from support.story import until
from support.wired_agent import wired_agent
from tocsin_alerting.agent_reload import renamed_receivers
from tocsin_alerting.app import App
from tocsin_alerting.incidents.history_words import line_words
from tocsin_alerting.incidents.incident import IncidentState
from tocsin_alerting.loops.config_reload import BY_FILE, ReloadFailed
from tocsin_alerting.loops.silent_targets import SilentTargets
from tocsin_alerting.rules.meta_alerts import MetaAlertName
from tocsin_exporter.targets import ENGINE_AREA

CONFIG = """\
collect: {host: 1s, gpu: 0s, processes: 0s, engines: 0s}
evaluation_interval: 1m
rule_files: ["rules/*.yml"]
contacts:
  li: {email: li@example.com}
smtp: {smarthost: "127.0.0.1:1", from: a@example.com, tls: none}
receivers:
  desk: {type: log}
  hook: {type: webhook, url: "http://127.0.0.1:9/x", secret_file: key, rate: 20/min}
schedules:
  primary: {rotation: {type: weekly, at: "Mon 10:00", start: 2026-01-05, members: [li]}}
policies:
  P0:
    group: {wait: 0s}
    steps:
    - {notify: [{receiver: desk}, {receiver: hook}], escalate_after: 15m}
    - {notify: [{schedule: primary}]}
routes:
- {match: ['team="ml"'], policy: P2}
- {}
maintenance:
- {name: night, match: ['rack="3"'], every: {days: Sun, from: "02:00", to: "04:00"}}
heartbeats: {expected: {backup: {every: 24h, token_file: token}}}
reopen_within: 20m
"""
RULES = """\
groups:
- name: g
  interval: 1m
  rules:
  - alert: Fires
    expr: vector(1)
    labels: {severity: P0}
    annotations: {summary: "{{ $labels.alertname }} fires"}
  - alert: Waits
    expr: vector(1) > 0
    for: 1h
    labels: {severity: P1}
  - record: r:x
    expr: sum(vector(2))
"""
CALENDAR = """\
BEGIN:VCALENDAR
VERSION:2.0
BEGIN:VEVENT
UID:1
DTSTART:20260105T100000Z
DTEND:20300105T100000Z
SUMMARY:li
END:VEVENT
END:VCALENDAR
""".replace("\n", "\r\n")
KEY = "whsec_" + "c2VjcmV0" * 5 + "\n"


class Agent:
    """One that nothing drives but the test."""

    def __init__(self, app: App, folder: Path) -> None:
        self.app, self.folder, self.minute = app, folder, 0

    def write(self, config: str = CONFIG, rules: str = RULES) -> None:
        (self.folder / "tocsin.yml").write_text(config)
        (self.folder / "rules" / "a.yml").write_text(rules)

    async def reload(self, *, asked: bool = True) -> str:
        """What was wrong."""
        try:
            await self.app.reload.reload.reload("a test" if asked else BY_FILE, asked=asked)
        except ReloadFailed as error:
            return str(error)
        return ""

    async def evaluate(self) -> None:
        self.minute += 1
        at_ms = self.app.started_ms + 60_000 * self.minute
        for progress in self.app.groups.all:
            await self.app.rule_loop.evaluate(progress, at_ms)

    def alerts(self) -> dict[str, tuple[str, int]]:
        """By name, state and since when."""
        rules = [rule for group in self.app.groups.all for rule in group.rules]
        alerts = [alert for rule in rules for alert in rule.alerts.values()]
        return {alert.name: (alert.state.value, alert.active_at_ms) for alert in alerts}

    def incident(self) -> tuple[IncidentState, object, int]:
        one = self.app.dispatcher.working.incidents[1]
        return one.state, one.policy, one.step

    def running(self) -> list[int]:
        """The identities of what runs."""
        running = self.app.running
        groups = [group.group for group in self.app.groups.all]
        return [*map(id, (running.read, *groups, *running.channels.values()))]


@asynccontextmanager
async def agent(folder: Path, config: str = CONFIG) -> AsyncIterator[Agent]:
    (folder / "rules").mkdir()
    (folder / "rules" / "a.yml").write_text(RULES)
    (folder / "key").write_text(KEY)
    (folder / "token").write_text("t0ken-of-backup-0123456789\n")
    with wired_agent(folder, config) as app:
        await app.start()
        scraping = asyncio.create_task(app.agent.run())
        await until(lambda: app.agent.ready, 20)  # before that no rule says anything
        scraping.cancel()
        one = Agent(app, folder)
        await one.evaluate()
        yield one
        await app.close()


async def test_what_is_equal_goes_on_as_it_is(tmp_path: Path) -> None:
    async with agent(tmp_path) as one:
        before = one.running()[1:]
        assert await one.reload() == ""
        assert one.running()[1:] == before
        hook, desk = (one.app.running.channels[name] for name in ("hook", "desk"))
        (tmp_path / "key").write_text(KEY.replace("c2Vj", "c3Vj"))
        one.write(rules=RULES.replace("vector(1) > 0", "vector(3)"))
        assert await one.reload() == ""
        assert one.app.running.channels["desk"] is desk
        assert one.app.running.channels["hook"] is not hook  # its secret is another one
        assert one.alerts()["Waits"] == ("pending", one.app.started_ms + 60_000)
        await one.evaluate()
        assert one.alerts()["Waits"] == ("pending", one.app.started_ms + 60_000)
        assert one.app.running.read.needs_restart == []


async def test_the_history_of_an_incident_says_that_its_rule_was_changed(tmp_path: Path) -> None:
    async with agent(tmp_path) as one, api_client(one.app.routes()) as client:

        async def said() -> list[str]:
            history = (await client.get("/api/v1/incidents/1")).json()["data"]["history"]
            lines = [line for line in history if line["event"] == "rule_changed"]
            return [line_words(line["event"], "", line["data"], 0) for line in lines]

        assert await one.reload() == "" and await said() == []
        changed = RULES.replace("expr: vector(1)\n", "expr: vector(7)\n    for: 0s\n")
        one.write(rules=changed.replace("fires", "burns").replace("for: 1h", "for: 2h"))
        assert await one.reload() == ""
        assert await said() == ["a reload changed its rule Fires: expr, annotations"]
        one.write(rules="# moved\n" + changed.replace("fires", "burns"))
        assert await one.reload() == "" and len(await said()) == 1


MISTAKES: Sequence[tuple[Callable[[str], str], str]] = (
    (lambda config: config.replace("desk:", "desk"), "tocsin.yml:"),
    (lambda config: config.replace("{schedule: primary}", "{schedule: secondary}"), "secondary"),
    (lambda config: config.replace("secret_file: key", "secret_file: gone"), "gone"),
    (lambda config: config + "rule_filess: []\n", "rule_files"),
    (lambda config: config.replace("rules/*.yml", "rules/none.yml"), "none.yml"),
    (lambda config: config + "templates: nowhere\n", "nowhere"),
)


async def test_one_mistake_keeps_all_that_runs(tmp_path: Path) -> None:
    async with agent(tmp_path) as one:
        before = one.running()
        for change, words in MISTAKES:
            one.write(change(CONFIG), RULES.replace("for: 1h", "for: 2h"))
            assert words in await one.reload()
            assert one.running() == before
        one.write(rules=RULES.replace("for: 1h", "for: 2h"))
        assert await one.reload() == ""
        (_, waits, _) = one.app.groups.all[0].rules
        assert getattr(waits.rule, "for_ms", 0) == 7_200_000


async def test_every_stage_takes_what_is_new(tmp_path: Path) -> None:
    changes = {
        "reopen_within: 20m": "reopen_within: 21m",
        "desk: {type: log}": "desk: {type: log}\n  new: {type: log}",
        "backup:": "restore:",
        "evaluation_interval: 1m": "evaluation_interval: 2m\nresolve_timeout: 7m\n"
        "meta_alerts: {MetricMissing: {enabled: false}, TargetSilent: {severity: P1}}",
        "match: ['rack=\"3\"']": "match: ['rack=\"4\"']",
        "li@example.com": "li@example.org",
    }
    config = CONFIG + "time_zone: Asia/Shanghai\nweb: {listen_address: '127.0.0.1:1', open: true}\n"
    for old, new in changes.items():
        assert old in config
        config = config.replace(old, new)
    async with agent(tmp_path) as one, api_client(one.app.routes()) as client:
        app = one.app
        one.write(config, RULES.replace("  interval: 1m\n", ""))
        refused = await client.post("/-/reload", headers={"Origin": "http://evil.example"})
        assert refused.status_code == 403
        said = await client.post("/-/reload")
        waiting = ["time_zone", "web.listen_address", "web.open"]
        assert (said.status_code, said.text.splitlines()) == (
            200,
            [f"{key} needs a restart" for key in waiting],
        )
        assert app.dispatcher.working.config.reopen_within_ms == 1_260_000
        assert [group.interval_ms for group in app.groups.all] == [120_000]
        assert app.intake.resolve_timeout_ms == 420_000
        checks = {check.name: check for check in app.meta_alerts.loop.checks}
        assert set(checks) == {"RuleBroken", "TargetSilent", "CollectorFailing", "ClockStepped"}
        silent = checks[MetaAlertName.TARGET_SILENT]
        assert isinstance(silent, SilentTargets) and silent.severity == "P1"
        working = app.dispatcher.working
        assert [one.name for one in working.heartbeats] == ["restore"]
        assert app.dispatcher.heartbeats.configured_tokens.popitem()[1] == "restore"  # type: ignore[attr-defined]
        assert [window.matchers[0].value for window in working.mute_rules.windows] == ["4"]
        assert app.running.emails == {"li": "li@example.org"}
        status = (await client.get("/api/v1/status/tocsin")).json()["data"]
        assert set(status["receivers"]) >= {"desk", "hook", "new"}
        assert status["reload"]["needs_restart"] == waiting
        yaml = (await client.get("/api/v1/status/config")).json()["data"]["yaml"]
        assert "reopen_within: 21m" in yaml and "time_zone: UTC" in yaml
        listed = (await client.get("/api/v1/receivers")).json()["data"]["receivers"]
        assert "new" in [receiver["name"] for receiver in listed]
        one.write("rule_files: 1")
        said = await client.put("/-/reload")
        assert said.status_code == 500 and "tocsin.yml:1:13: " in said.text


async def test_unasked_it_removes_nothing_that_somebody_is_paged_for(tmp_path: Path) -> None:
    async with agent(tmp_path) as one:
        for config, rules, why in (
            (CONFIG, RULES.replace("Fires", "Burns"), 'remove "Fires"'),
            (CONFIG, "groups: []\n", "has no rule any more"),
            ("# all gone\n", RULES, "the configuration file is empty"),
        ):
            one.write(config, rules)
            before = one.running()
            assert await one.reload(asked=False) == ""
            assert why in one.app.reload.reload.status.held
            assert one.running() == before
        one.write(rules=RULES.replace("Waits", "Rests"))  # of which no incident is open
        assert await one.reload(asked=False) == ""
        assert one.app.reload.reload.status.held == ""
        (tmp_path / "rules" / "b.yml").write_text(RULES)  # moved
        (tmp_path / "rules" / "a.yml").unlink()
        assert await one.reload(asked=False) == "" and not one.app.reload.reload.status.held
        await one.evaluate()
        assert one.alerts()["Fires"] == ("firing", one.app.started_ms + 60_000)
        assert one.incident()[0] is IncidentState.TRIGGERED
        one.write(rules="groups: []\n")
        (tmp_path / "rules" / "b.yml").unlink()
        assert await one.reload() == ""
        assert one.incident()[0] is IncidentState.RESOLVED


async def test_unasked_it_does_not_lose_all_files_of_a_pattern(tmp_path: Path) -> None:
    """What waits would be lost, and nobody would hear that no rule is left."""
    async with agent(tmp_path) as one:
        one.write(rules=RULES.replace("Fires", "Quiet").replace("vector(1)\n", "vector(0) > 1\n"))
        assert await one.reload() == ""
        await one.evaluate()
        waits = one.alerts()["Waits"]
        (tmp_path / "rules").rename(tmp_path / "unmounted")
        assert await one.reload(asked=False) == ""
        assert "rules/*.yml finds no rule file any more" in one.app.reload.reload.status.held
        (tmp_path / "unmounted").rename(tmp_path / "rules")
        assert await one.reload(asked=False) == "" and not one.app.reload.reload.status.held
        assert one.alerts()["Waits"] == waits
        (tmp_path / "rules" / "a.yml").unlink()
        assert await one.reload() == "" and not one.alerts()  # somebody wants it so


def engines(*ports: int, more: str = "") -> str:
    urls = ", ".join(f'"http://127.0.0.1:{port}"' for port in ports)
    listed = "".join(f"\n- {{url: {url}{more}}}" for url in urls.split(", "))
    return CONFIG.replace("engines: 0s", "engines: 1s") + f"engines:{listed}\n"


async def test_engines_are_watched_and_no_longer_watched(tmp_path: Path) -> None:
    async with agent(tmp_path, engines(1, 2)) as one:
        app = one.app

        def watched() -> dict[str, object]:
            return {
                scraper.target.target: scraper.target.collectors[0]
                for scraper in app.agent.scrapers
                if scraper.target.area == ENGINE_AREA
            }

        before = watched()
        assert set(before) == {"127.0.0.1:1", "127.0.0.1:2"}
        one.write(engines(2, 3))
        assert await one.reload(asked=False) == "" and not one.app.reload.reload.status.held
        assert set(watched()) == {"127.0.0.1:2", "127.0.0.1:3"}
        assert watched()["127.0.0.1:2"] is before["127.0.0.1:2"]
        one.write(engines(2, 3) + "targets: {latency_p95: 3s}\n")
        assert await one.reload() == ""
        assert watched()["127.0.0.1:2"] is not before["127.0.0.1:2"]
        about = app.engine_sources.host.engine_targets
        assert about is not None and about.latency_p95 == 3
        assert app.running.read.needs_restart == []
        one.write(CONFIG.replace("engines: 0s", "engines: 1s"))  # would be looked for then
        assert await one.reload() == ""
        assert app.running.read.needs_restart == ["engines"]
        assert len(watched()) == 2


async def test_an_engine_is_not_removed_unasked_while_somebody_is_paged_for_it(
    tmp_path: Path,
) -> None:
    async with agent(tmp_path, engines(1, 2)) as one:
        down = alert("EngineDown", "P0", target="127.0.0.1:2")
        await one.app.dispatcher.handle([fires(down)], one.app.clock.now_ms())
        one.write(engines(2))
        assert await one.reload(asked=False) == "" and not one.app.reload.reload.status.held
        one.write(engines(3))
        assert await one.reload(asked=False) == ""
        assert "no longer watch 127.0.0.1:2, of which an" in one.app.reload.reload.status.held
        assert await one.reload() == "" and not one.app.reload.reload.status.held


async def test_limits_labels_and_addresses_of_others_hold_at_once(tmp_path: Path) -> None:
    """Alertmanagers and receivers of samples that stay go on; what is written of them is theirs."""
    sections = """\
external_labels: {{cluster: {cluster}}}
unknown_max: 3h
storage: {{retention: 3d, size: 1GiB}}
alertmanagers: [{{url: "http://127.0.0.1:9/{first}"}}, {{url: "http://127.0.0.1:9/b"}}]
remote_write: [{{url: "http://127.0.0.1:9/{first}"}}, {{url: "http://127.0.0.1:9/b"}}]
"""
    async with agent(tmp_path) as one, api_client(one.app.routes()) as client:
        app, away = one.app, one.app.elsewhere
        running = asyncio.create_task(away.run())
        one.write(CONFIG + sections.format(cluster="a", first="one"))
        assert await one.reload() == ""
        assert app.running.read.needs_restart == []
        assert app.groups.deps.unknown_max_ms == 3 * 3_600_000
        assert app.groups.deps.external_labels == {"cluster": "a"}
        assert app.store.retention_ms == app.disk.retention_ms == 3 * 86_400_000
        runtime = (await client.get("/api/v1/status/runtimeinfo")).json()["data"]
        assert runtime["storageRetention"] == "3d or 1GiB"
        shown = (await client.get("/api/v1/alertmanagers")).json()["data"]
        urls = [each["url"] for each in shown["activeAlertmanagers"]]
        assert urls == [f"http://127.0.0.1:9/{path}/api/v2/alerts" for path in ("one", "b")]
        senders = away.remote_writers._senders
        forwarders = away.alertmanagers._forwarders
        one.write(CONFIG + sections.format(cluster="a", first="two"))
        assert await one.reload() == ""
        assert away.remote_writers._senders[1] is senders[1]
        assert away.remote_writers._senders[0] is not senders[0]
        assert away.alertmanagers._forwarders[1] is forwarders[1]
        one.write(CONFIG + sections.format(cluster="b", first="two"))
        assert await one.reload() == ""
        assert away.alertmanagers._forwarders[1] is not forwarders[1], "it says other labels"
        await one.evaluate()
        await until(lambda: away.alertmanagers._forwarders[1].counts.errors > 0, 20)
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize(
    "section",
    [
        'alertmanagers: [{url: "http://127.0.0.1:9"}, {url: "http://am.example:9"}]\n',
        'remote_write: [{url: "http://127.0.0.1:9"}, {url: "http://db.example:9"}]\n',
        "schedules: {primary: {ical_file: duty.ics}}\n",
        'receivers: {far: {type: webhook, url: "http://far.example:9/"}}\n',
    ],
)
async def test_without_a_thread_for_one_of_them_nothing_is_taken(
    tmp_path: Path, section: str
) -> None:
    """It was found half-way, when the rules and receivers were others already."""
    (tmp_path / "duty.ics").write_text(CALENDAR)
    async with agent(tmp_path) as one:
        key = section.partition(":")[0]
        plain = re.sub(rf"^{key}:\n(?:  .*\n)+", "", CONFIG, flags=re.M)
        if key == "receivers":
            section = section.replace("{far", "{desk: {type: log}, hook: {type: log}, far")
        assert await one.reload() == ""  # whose thread is there now
        before, away = one.running(), one.app.elsewhere
        one.write(plain + section, RULES.replace("Waits", "Other"))
        with no_threads():
            assert "can't start new thread; " in await one.reload()
        assert one.running() == before
        assert not (away.alertmanagers._forwarders or away.remote_writers._senders)
        assert await one.reload() == ""
        assert one.running() != before


async def test_a_renamed_receiver_is_known_by_what_it_is_made_of(tmp_path: Path) -> None:
    async with agent(tmp_path) as one:
        before = dict(one.app.running.read.channels)
        one.write(
            CONFIG.replace("hook:", "ring:")
            .replace("receiver: hook", "receiver: ring")
            .replace("desk: {type", "a: {type: log}\n  b: {type")
            .replace("receiver: desk", "receiver: a")
        )
        assert await one.reload() == ""
        now = one.app.running.read.channels
        assert renamed_receivers(before, now) == {"hook": "ring"}, "desk may be either of two"
        (tmp_path / "key").write_text(KEY.replace("c2Vj", "c3Vj"))
        one.write(CONFIG)
        assert await one.reload() == ""
        back = renamed_receivers(now, one.app.running.read.channels)
        assert back == {"a": "desk", "b": "desk"}, "ring has another secret"


async def test_silences_and_contacts_over_a_reload(tmp_path: Path) -> None:
    """A silence goes on to hold; who comes in the place of a contact is paged from then on."""
    config = CONFIG.replace("{schedule: primary}", "{contact: li}, {schedule: primary}")
    async with agent(tmp_path, config) as one, api_client(one.app.routes()) as client:
        working, now_ms = one.app.dispatcher.working, one.app.clock.now_ms
        until_ms = now_ms() + 3_600_000
        body = {"matchers": ["alertname=Fires"], "for": "1h", "comment": "c", "by": "li"}
        made = await client.post("/api/v1/silences", json=body)
        assert made.status_code == 200, made.text
        await one.app.dispatcher.due(now_ms())
        assert any(mute.startswith("silence:") for mute in working.incidents[1].muted_by)
        two = (
            config.replace("li:", "wang:")
            .replace("[li]", "[wang]")
            .replace("contact: li", "contact: wang")
        )
        one.write(two.replace('rack="3"', 'rack="9"'), RULES.replace("vector(1)\n", "vector(2)\n"))
        assert await one.reload() == ""
        await one.evaluate()
        (silence,) = working.mute_rules.silences.values()
        assert abs(silence.ends_at_ms - until_ms) < 60_000
        assert any(mute.startswith("silence:") for mute in working.incidents[1].muted_by)
        assert set(working.config.roster.contacts) == {"wang"} == set(one.app.running.contacts)
        shown = (await client.get("/api/v1/oncall")).json()["data"]
        assert "wang" in str(shown) and "li@" not in str(shown)
        policy = working.incidents[1].policy
        told = {str(who) for step in policy.steps for who in step.notify}
        assert "li" not in told and any("wang" in who for who in told)
        lost = await client.get("/api/v1/incidents/1")
        assert any(e["event"] == "receivers_lost" for e in lost.json()["data"]["history"])
        one.write(two)
        assert await one.reload() == ""
        assert [*working.mute_rules.silences] == [silence.id]


async def test_a_file_that_may_be_read_again_is_a_changed_one(tmp_path: Path) -> None:
    """Its contents are as they were: who repairs a file by `chmod` has changed it as well."""
    async with agent(tmp_path) as one:
        reader, config = one.app.setup.reader, one.app.running.config
        rules = tmp_path / "rules" / "a.yml"
        for path in (rules, tmp_path / "key"):
            before = reader.stamps(config)
            path.chmod(path.stat().st_mode ^ 0o040)
            assert reader.stamps(config) != before


def broken(text: str, dice: random.Random) -> str:
    """`text` as an editor, a half-written file or a careless merge leaves it."""
    lines = text.splitlines(keepends=True)
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(len(lines)) if lines else 0
        match dice.randrange(8):
            case 0:
                del lines[at : at + dice.randint(1, 4)]
            case 1:
                lines[at:at] = lines[at : at + dice.randint(1, 6)]
            case 2:
                lines[at : at + 1] = ["<<<<<<< ours\n", *lines[at : at + 1], "=======\n"]
            case 3:
                return "".join(lines)[: dice.randrange(len(text))]
            case 4 if lines:
                lines[at] = " " * dice.randint(1, 3) + lines[at]
            case 5 if lines:
                words = re.findall(r"\w+|\W", lines[at])
                words[dice.randrange(len(words))] = dice.choice(
                    ["0", "[]", "no", "P9", "{", "\0", "ü"]
                )
                lines[at] = "".join(words)
            case 6 if lines:
                other = dice.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
            case _ if lines:
                lines[at] = lines[at].replace(": ", dice.choice([":", ": - ", ": !!x ", ": *a "]))
    return "".join(lines)


async def _broken_at_random(folder: Path, count: int, seed: int) -> int:
    """How many were no longer wrong, and were taken."""
    dice, taken = random.Random(seed), 0
    async with agent(folder) as one:
        for number in range(count):
            config, rules = CONFIG, RULES
            if dice.random() < 0.6:
                config = broken(config, dice)
            if config == CONFIG or dice.random() < 0.3:
                rules = broken(rules, dice)
            before, alerts, incident = one.running(), one.alerts(), one.incident()
            one.write(config, rules)
            wrong = await one.reload()
            where = f"seed {seed}, {number}: {config}\n{rules}"
            if wrong:
                assert one.running() == before, where
                assert (one.alerts(), one.incident()) == (alerts, incident), where
                assert "Error: " not in wrong, f"{wrong}\n{where}"  # a fault of ours
            else:
                taken += 1
                one.write()
                assert await one.reload() == "", where
            await one.evaluate()
            assert one.alerts()["Fires"][0] == "firing", where
            assert one.incident()[0] is IncidentState.TRIGGERED, where
        return taken


async def test_whatever_the_files_have_become_what_ran_runs_on(tmp_path: Path) -> None:
    count = examples(120)
    assert 0 < await _broken_at_random(tmp_path, count, 1) < count


@pytest.mark.long
async def test_a_thousand_broken_configurations(tmp_path: Path) -> None:
    assert 0 < await _broken_at_random(tmp_path, 1000, 2) < 1000
