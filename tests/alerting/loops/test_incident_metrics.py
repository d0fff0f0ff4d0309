"""How incidents went: what the rules can bring is there before it happens."""

from support.alert_events import alert, fires
from support.dispatcher_setup import Floor
from support.policies import MINUTE, config
from support.rule_deps import surroundings
from support.rule_texts import alerting, group, recording
from support.site import only, table
from tocsin_alerting.incidents.actions import Verb
from tocsin_alerting.incidents.changeset import Changeset
from tocsin_alerting.incidents.statistics import MAX_ALERTS
from tocsin_alerting.incidents.tally import TALLY
from tocsin_alerting.loops.incident_metrics import HOWS, IncidentMetrics
from tocsin_alerting.promql.engine import QueryEngine
from tocsin_alerting.rules.groups import Groups
from tocsin_alerting.rules.rule import RuleFile
from tocsin_alerting.tsdb.store import Store
from tocsin_exporter.catalogue import STAGES
from tocsin_exporter.snapshot import Labels

OPENED = "tocsin_incidents_opened_total"


def _groups() -> Groups:
    groups = Groups(surroundings({}, engine=QueryEngine(Store())), 5_000)
    rules = (
        alerting("vector(1)", name="Down", severity="critical"),
        alerting("vector(1)", name="Quiet", severity="none"),
        alerting("vector(1)", name="Made", severity="{{ $labels.severity }}"),
        recording("a:b", "vector(1)"),
    )
    groups.load([RuleFile("f.yml", (group(*rules),))], 0)
    return groups


def _read(one: Floor, groups: Groups) -> dict[tuple[str, Labels], float]:
    stage = IncidentMetrics(one.dispatcher, lambda: groups.all, ["mail"], lambda: one.now)
    return table(stage.samples(STAGES))


async def test_what_may_happen_stands_at_zero() -> None:
    found = _read(await Floor(config()).open(), _groups())
    assert only(found, "tocsin_incidents_opened_total", alertname="Down", severity="P0") == 0
    for how in HOWS:
        name = "tocsin_incidents_resolved_total"
        assert only(found, name, alertname="Down", how=how) == 0
    assert only(found, "tocsin_incidents_reopened_total", alertname="Down") == 0
    assert only(found, "tocsin_pages_total", receiver="mail", severity="P3") == 0
    assert only(found, "tocsin_notifications_failed_total", receiver="mail") == 0
    assert only(found, "tocsin_incident_ack_seconds_count", severity="P1") == 0
    assert only(found, "tocsin_incident_escalations_total", severity="P4") == 0
    assert only(found, "tocsin_incident_oldest_unanswered_seconds", severity="P0") == 0
    names = {dict(labels).get("alertname") for _, labels in found} - {None}
    assert names == {"Down"}, "of none that never pages, nor of one whose severity is not known"


async def test_what_happened() -> None:
    one = await Floor(config()).open()
    await one.hear(fires(alert("Down", "P0", target="a"), one.now))
    await one.advance(2 * MINUTE)
    found = _read(one, _groups())
    name = "tocsin_incident_oldest_unanswered_seconds"
    assert only(found, name, severity="P0") == 120 and only(found, name, severity="P1") == 0
    assert only(found, "tocsin_incidents_opened_total", alertname="Down") == 1
    assert only(found, "tocsin_pages_total", receiver="chat", severity="P0") >= 1
    assert only(found, "tocsin_notification_latency_seconds_count", receiver="chat") >= 1
    assert only(found, "tocsin_incidents_unknown") == 0
    await one.act(Verb.ACK, 1, "li")
    found = _read(one, _groups())
    assert only(found, "tocsin_incident_oldest_unanswered_seconds", severity="P0") == 0
    bucket = "tocsin_incident_ack_seconds_bucket"
    assert [only(found, bucket, severity="P0", le=le) for le in ("60", "120", "+Inf")] == [0, 1, 1]
    assert only(found, "tocsin_incident_ack_seconds_sum", severity="P0") == 120


async def test_counts_are_whole_or_absent() -> None:
    one = await Floor(config()).open()
    await one.hear(fires(alert("Down", "P0", target="a"), one.now))
    await one.journal.commit(Changeset(meta={TALLY: ""}))
    await one.restart()
    found = _read(one, _groups())
    assert not any(name.endswith("_total") for name, _ in found)
    await one.dispatcher.tally.read(one.journal)
    assert only(_read(one, _groups()), "tocsin_incidents_opened_total", alertname="Down") == 1


async def test_as_many_names_stand_at_zero_as_are_told_apart() -> None:
    """A scrape of ten thousand names would hold up the loop for seconds."""
    rules = [alerting("vector(1)", name=f"A{n}", severity="P2") for n in range(MAX_ALERTS + 50)]
    groups = Groups(surroundings({}, engine=QueryEngine(Store())), 5_000)
    groups.load(
        [RuleFile("f.yml", (group(*rules, alerting("vector(1)", name="Z", severity="P0")),))], 0
    )
    one = await Floor(config()).open()
    stage = IncidentMetrics(one.dispatcher, lambda: groups.all, [], lambda: one.now)
    first = [*stage.samples(STAGES)]
    opened = [dict(s.labels)["alertname"] for s in first if s.family.name == OPENED]
    assert len(opened) == MAX_ALERTS + 1 and {"Z", "other"} < {*opened}, "the worst ones first"
    again = {id(sample) for sample in stage.samples(STAGES)}
    same = [sample for sample in first if id(sample) in again]
    assert len(same) == 8 * (MAX_ALERTS + 1), "made once for as long as nothing changes"
    await one.hear(fires(alert("Z", "P0"), one.now))
    assert only(table(stage.samples(STAGES)), OPENED, alertname="Z") == 1
    groups.load([RuleFile("f.yml", (group(rules[0]),))], 0)
    left = {dict(s.labels)["alertname"] for s in stage.samples(STAGES) if s.family.name == OPENED}
    assert left == {"A0", "Z"}
