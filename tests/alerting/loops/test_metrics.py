"""What the stages say of themselves: every number belongs to a family of the catalogue."""

from collections.abc import Iterable

from support.alert_events import alert, fires
from support.dispatcher_setup import Floor
from support.policies import config
from support.posted_alerts import external
from support.rule_deps import surroundings
from support.rule_texts import alerting, group, recording
from support.silences import silence
from support.site import only, table
from tocsin_alerting.incidents.heartbeats import ExpectedHeartbeat
from tocsin_alerting.incidents.mute_rules import MUTE_KINDS
from tocsin_alerting.incidents.silences import SilenceState
from tocsin_alerting.local.discovery import KnownEngine
from tocsin_alerting.local.engine_plan import EnginePlan
from tocsin_alerting.local.engine_supervisor import EngineHooks, EngineSupervisor
from tocsin_alerting.loops import metrics
from tocsin_alerting.notify.delivery import DeliveryLoop
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.remote_write.result import ReceiveResult, RemoteWriteCounters
from tocsin_alerting.rules.groups import Groups
from tocsin_alerting.rules.rule import RuleFile
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.catalogue import STAGES
from tocsin_exporter.engine_access import EngineAccess
from tocsin_exporter.snapshot import Labels, Sample, labels

Rows = dict[tuple[str, Labels], float]


def rows(samples: Iterable[Sample]) -> Rows:
    return table(samples)


def test_the_store_says_how_many_series_are_off_their_axis() -> None:
    store, one = Store(), labels(__name__="m", job="j", instance="i")
    other = labels(__name__="n", job="j", instance="i")
    store.write([(one, at, 1.0) for at in (1000, 2000)])
    store.write([(other, 1500, 1.0)])
    found = rows(metrics.store_samples(store, STAGES))
    assert only(found, "tocsin_store_series_loose") == 1


def test_the_store() -> None:
    store = Store()
    store.write([(labels(__name__="m", job="j", instance="i"), at, 1.0) for at in (1000, 2000)])
    store.write([(labels(__name__="m", job="j", instance="i"), 500, 1.0)])
    found = rows(metrics.store_samples(store, STAGES))
    assert only(found, "tocsin_store_series") == store.stats().series
    assert only(found, "tocsin_store_samples") == store.stats().samples >= 2
    assert only(found, "tocsin_store_series_loose") == 0
    assert only(found, "tocsin_store_series_refused_total", reason="per_sender") == 0
    assert only(found, "tocsin_store_series_max") == store.stats().limits.series
    assert only(found, "tocsin_store_remote_sources") == 1
    assert only(found, "tocsin_store_remote_sources_max") == store.stats().limits.sources
    assert only(found, "tocsin_store_remote_sources_evicted_total") == 0
    assert only(found, "tocsin_store_bytes") > 0
    assert sum(v for (name, _), v in found.items() if "samples_refused" in name) == 1


def test_remote_write() -> None:
    traffic = RemoteWriteCounters()
    traffic.requests.update({204: 3, 400: 1})
    traffic.add(ReceiveResult(1500, {"out_of_order": 2}, ""))
    for protocol in ("remote_write", "otlp"):
        found, name = rows(metrics.write_samples(traffic, protocol, STAGES)), f"tocsin_{protocol}_"
        assert only(found, f"{name}requests_total", code="204") == 3
        assert only(found, f"{name}samples_total") == 1500
        assert only(found, f"{name}samples_refused_total", reason="out_of_order") == 2


async def test_the_rules() -> None:
    groups = Groups(surroundings({}, engine=QueryEngine(Store())), 5_000)
    rules = (alerting("vector(1)", severity="P1"), recording("a:b", "vector(1) + on(x) vector(1)"))
    groups.load([RuleFile("f.yml", (group(*rules),))], 0)
    before = rows(metrics.rule_samples(groups, STAGES))
    assert not any("last_evaluation_timestamp" in name for name, _ in before)
    (progress,) = groups.all
    await groups.evaluate(progress, groups.slot(progress, 1_700_000_000_000))
    found = rows(metrics.rule_samples(groups, STAGES))
    assert only(found, "tocsin_rule_evaluations_total", rule_group="f.yml;g") == 2
    assert only(found, "tocsin_rule_evaluation_failures_total") == 0
    assert only(found, "tocsin_rule_group_interval_seconds") == 5
    assert only(found, "tocsin_rule_group_rules_failing", rule_group="f.yml;g") == 0
    assert only(found, "tocsin_alerts", alertname="A", severity="P1", state="firing") == 1


async def test_a_rule_that_fails_is_counted_at_each_evaluation_and_in_its_group() -> None:
    store = Store()
    both = [labels(__name__="m", job="j", instance=name, x="1") for name in "ab"]
    store.write([(one, 1_700_000_000_000, 1.0) for one in both])
    groups = Groups(surroundings({}, engine=QueryEngine(store)), 5_000)
    same_labels = recording(
        "a:b", "max without (instance) (m) or label_replace(m, 'instance', '', '', '')"
    )
    joins = recording("c:d", "m * on (x) m")
    groups.load([RuleFile("f.yml", (group(joins, same_labels),))], 0)
    (progress,) = groups.all
    for second in (0, 5):
        await groups.evaluate(progress, 1_700_000_000_000 + 1000 * second)
    found = rows(metrics.rule_samples(groups, STAGES))
    assert only(found, "tocsin_rule_group_rules_failing") == 2
    assert only(found, "tocsin_rule_evaluation_failures_total") == 4


async def test_alerts_of_other_senders() -> None:
    floor = await Floor(config()).open()
    every = [external("A", ends=floor.now + 1_000), external("B", ends=floor.now + 90_000)]
    await floor.dispatcher.receive(every, floor.now)
    await floor.advance(2_000)
    floor.dispatcher.working.external.received.update({"firing": 2, "invalid": 1})
    found = rows(metrics.incident_samples(floor.dispatcher, lambda: floor.now, STAGES))
    assert only(found, "tocsin_external_alerts", state="firing") == 1
    assert only(found, "tocsin_external_alerts", state="unknown") == 1
    assert only(found, "tocsin_external_alerts_received_total", status="firing") == 2
    assert only(found, "tocsin_external_alerts_received_total", status="invalid") == 1


async def test_the_desk_and_the_courier() -> None:
    floor = await Floor(config()).open()
    await floor.reconcile()
    await floor.hear(fires(alert(target="a:1"), floor.now))
    found = rows(metrics.incident_samples(floor.dispatcher, lambda: floor.now, STAGES))
    assert only(found, "tocsin_incidents", severity="P0", state="TRIGGERED") == 1
    assert only(found, "tocsin_journal_up") == 1
    assert only(found, "tocsin_journal_late_total") == 0
    assert only(found, "tocsin_notifications_queue_length") == 0
    assert only(found, "tocsin_timer_overdue_seconds") == 0
    delivery_loop = DeliveryLoop(floor.dispatcher, {}, lambda: floor.now)
    delivery_loop.counts.update(
        {("mail", "Delivered"): 3, ("mail", "RetryAt"): 2, ("mail", "Permanent"): 1}
    )
    told = rows(metrics.delivery_samples(delivery_loop, STAGES))
    assert only(told, "tocsin_notifications_sent_total", receiver="mail") == 3
    assert only(told, "tocsin_notifications_errors_total", receiver="mail") == 3


async def test_what_is_muted_and_the_silences() -> None:
    floor = await Floor(config()).open()
    for name, for_ms in (("s1", 3_600_000), ("s2", 1_000)):
        wanted = silence(floor.now, 'alertname="Slow"', for_ms=for_ms)
        await floor.dispatcher.silencing.put(wanted, name, floor.now)
    window = silence(floor.now, 'target="a"', window="w")
    await floor.dispatcher.silencing.put(window, "w1", floor.now)
    await floor.hear(fires(alert("Slow", target="a")), fires(alert("Slow", target="b")))
    await floor.hear(fires(alert("Down", target="c")))
    await floor.advance(2_000)
    found = rows(metrics.incident_samples(floor.dispatcher, lambda: floor.now, STAGES))
    muted = {by: only(found, "tocsin_incidents_muted", by=by) for by in MUTE_KINDS}
    assert muted == {"inhibited": 0, "silence": 2, "maintenance": 1, "storm": 0}
    states = {state: only(found, "tocsin_silences", state=state) for state in SilenceState}
    assert states == {"pending": 0, "active": 1, "expired": 1}


def test_engines_without_a_worker_or_load_say_only_that_there_is_no_worker() -> None:
    async def nothing(_: object) -> None:
        return None

    async def answered(_: str) -> float:
        return 0.0

    hooks = EngineHooks(
        watch=lambda _: None,
        rewatch=lambda _: None,
        unwatch=lambda _: None,
        answers=lambda _: True,
        remember=nothing,
        forget=nothing,
        now_ms=lambda: 0,
        answered=answered,
    )
    plan = EnginePlan((KnownEngine(EngineAccess.of("http://h:1"), "vLLM"),))
    found = rows(metrics.engines_samples(EngineSupervisor(plan, None, "", hooks), STAGES))
    assert found == {("tocsin_worker_supervised", ()): 0}


async def test_expected_heartbeats() -> None:
    expected = (ExpectedHeartbeat("job", 60_000, 5_000), ExpectedHeartbeat("never", 60_000))
    floor = await Floor(config(heartbeats=expected)).open()
    await floor.advance(1_500)
    await floor.dispatcher.heartbeats.beat("job", floor.now)
    seen = floor.now / 1000
    for wait_ms, up in ((64_000, 1), (2_000, 0)):
        await floor.advance(wait_ms)
        found = rows(metrics.incident_samples(floor.dispatcher, lambda: floor.now, STAGES))
        assert only(found, "tocsin_heartbeat_up", heartbeat="job") == up
        assert only(found, "tocsin_heartbeat_last_timestamp_seconds", heartbeat="job") == seen
        assert "never" not in str(found)
    await floor.dispatcher.heartbeats.beat("job", floor.now)
    found = rows(metrics.incident_samples(floor.dispatcher, lambda: floor.now, STAGES))
    assert only(found, "tocsin_heartbeat_up", heartbeat="job") == 1
