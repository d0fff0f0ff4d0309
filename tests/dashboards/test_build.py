"""The dashboards: what the script builds, in order, and every query understood by Prometheus."""

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.dashboards import FILES, build_script, read
from support.metric_names import named, unknown
from support.prometheus import Prometheus, running_prometheus
from support.promtool import needs_promtool, run_tests

BUILD = build_script()
UNITS = {"short", "reqps", "percentunit", "percent", "s", "Bps", "celsius", "watt", "suffix: tok/s"}
VARIABLE = re.compile(r"\$\{?(\w+)")

Json = dict[str, Any]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with running_prometheus(tmp_path_factory.mktemp("prometheus")) as server:
        yield server


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def dashboard(request: pytest.FixtureRequest) -> Json:
    return read(request.param)


def targets(dashboard: Json) -> list[Json]:
    return [target for panel in dashboard["panels"] for target in panel.get("targets", ())]


def test_the_file_is_what_the_script_builds() -> None:
    assert BUILD.main(["--check"]) is None


def test_check_notices_a_file_that_was_edited(tmp_path: Path) -> None:
    path = tmp_path / "overview.json"
    assert "is not what build.py builds" in BUILD.main(["--check"], path)
    assert BUILD.main([], path) is None
    assert BUILD.main(["--check"], path) is None
    path.write_text(path.read_text().replace("GPU", "CPU", 1))
    assert "is not what build.py builds" in BUILD.main(["--check"], path)


def test_a_wrong_flag_is_refused() -> None:
    assert "usage" in BUILD.main(["--chekc"])


def test_what_grafana_asks_of_a_provisioned_dashboard(dashboard: Json) -> None:
    assert dashboard["schemaVersion"] == 39
    assert dashboard["id"] is None and len(dashboard["uid"]) <= 40
    assert isinstance(dashboard["refresh"], str)
    assert "__inputs" not in dashboard
    names = [variable["name"] for variable in dashboard["templating"]["list"]]
    assert names[0] == "datasource" and len(set(names)) == len(names)


def test_panels_have_ids_of_their_own_and_do_not_overlap(dashboard: Json) -> None:
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(panel["title"], panel["gridPos"]) for panel in panels]
    for title, place in places:
        assert place["x"] >= 0 and place["x"] + place["w"] <= 24, title
    for (one, a), (other, b) in itertools.combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or above, f"{one} lies over {other}"


def test_every_panel_says_what_it_shows_and_where_from(dashboard: Json) -> None:
    for panel in dashboard["panels"]:
        if panel["type"] != "row":
            assert re.search(r"Metrics?: `\w+`", panel["description"]), panel["title"]
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
            references = [target["refId"] for target in panel["targets"]]
            assert references and len(set(references)) == len(references)


def test_every_variable_that_is_used_exists_and_has_a_substitute(dashboard: Json) -> None:
    own = {variable["name"] for variable in dashboard["templating"]["list"]}
    builtin = {"__rate_interval", "__interval", "__range"}
    used = {name for target in targets(dashboard) for name in VARIABLE.findall(target["expr"])}
    assert used <= own | builtin
    assert own - {"datasource"} <= used, "a variable that changes nothing"
    assert used <= BUILD.SUBSTITUTED.keys()


def test_counters_are_shown_as_rates_over_grafanas_interval(dashboard: Json) -> None:
    for target in targets(dashboard):
        for counter in re.findall(r"\w+_(?:total|bucket)\b", target["expr"]):
            assert re.search(rf"rate\({counter}\{{[^[]*\[\$__rate_interval\]", target["expr"])


def test_every_metric_is_one_that_we_export(dashboard: Json) -> None:
    asked = BUILD.queries(dashboard)
    assert not unknown("\n".join(asked))
    assert {"llm_engine_up", "tocsin_incidents"} <= named("\n".join(asked))


def test_prometheus_executes_every_query(dashboard: Json, prometheus: Prometheus) -> None:
    asked = BUILD.queries(dashboard)
    assert len(asked) > len(dashboard["panels"])
    for query in asked:
        over = prometheus.get("query_range", query=query, start="0", end="600", step="15")
        assert over["status"] == "success", f"{query}: {over}"
        assert prometheus.get("query", query=query)["status"] == "success", query


def test_prometheus_refuses_what_is_wrong(prometheus: Prometheus) -> None:
    assert prometheus.get("query", query="sum(rate(llm_requests_total[$__x]))")["status"] == "error"


VERDICTS = ("Engines down", "Firing alerts", "Open incidents")
WELL = {
    'llm_engine_up{instance="i", target="e"}': "1x20 ",
    'tocsin_build_info{instance="i"}': "1x20 ",
    'tocsin_journal_up{instance="i"}': "1x20 ",
    "inference_throughput:evaluation_timestamp_seconds:last": "0+15x80 ",
}


def tile(title: str) -> Json:
    panels = read(FILES[0])["panels"]
    return dict(next(panel for panel in panels if panel["title"] == title))


def expected(title: str, at: str, value: float | None) -> Json:
    query = BUILD.substitute(tile(title)["targets"][0]["expr"])
    samples = [] if value is None else [{"labels": "{}", "value": value}]
    return {"expr": query, "eval_time": at, "exp_samples": samples}


@needs_promtool
def test_a_tile_is_a_number_while_somebody_knows_it_and_nothing_once_the_exporter_is_dead(
    tmp_path: Path,
) -> None:
    more = {"inference_throughput:evaluation_timestamp_seconds:last": ""}
    series = [{"series": name, "values": v + more.get(name, "stale")} for name, v in WELL.items()]
    cases = [expected(title, "4m", 0) for title in VERDICTS]
    cases += [expected(title, "6m", None) for title in VERDICTS]
    file = tmp_path / "tiles.test.yml"
    test = {"interval": "15s", "input_series": series, "promql_expr_test": cases}
    file.write_text(json.dumps({"tests": [test]}))
    passed, said = run_tests(file)
    assert passed, said


def test_no_panel_is_green_or_red_where_nothing_is_known(dashboard: Json) -> None:
    for panel in dashboard["panels"]:
        if panel["type"] != "row":
            first = panel["fieldConfig"]["defaults"]["thresholds"]["steps"][0]
            assert first == {"value": None, "color": BUILD.UNKNOWN}, panel["title"]


def test_no_query_makes_a_number_of_nothing(dashboard: Json) -> None:
    for target in targets(dashboard):
        assert not re.search(r"vector\s*\(", target["expr"]), target["expr"]


def test_a_single_number_is_that_of_now(dashboard: Json) -> None:
    for panel in dashboard["panels"]:
        if panel["type"] == "stat":
            assert all(target["instant"] for target in panel["targets"]), panel["title"]
