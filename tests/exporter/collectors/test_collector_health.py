from support.site import only, table
from tocsin_exporter.collectors.collector_health import CollectorHealth


def test_nothing_to_read_says_nothing() -> None:
    assert list(CollectorHealth("gpu").samples(1.0)) == []


def test_age_grows_while_it_fails_and_errors_are_counted_by_kind() -> None:
    health = CollectorHealth("llm", target="h:8000")
    health.succeeded(at_ms=5_000, at=10.0)
    health.failed(TimeoutError())
    health.failed(KeyError("x"))
    rows = table(health.samples(at=12.5))
    assert only(rows, "tocsin_collector_success", collector="llm", target="h:8000") == 0
    assert only(rows, "tocsin_collector_age_seconds") == 2.5
    assert only(rows, "tocsin_collector_last_success_timestamp_seconds") == 5
    assert only(rows, "tocsin_collector_timeouts_total") == 1
    assert only(rows, "tocsin_collector_errors_total", error_type="KeyError") == 1
    assert only(rows, "tocsin_collector_errors_total", error_type="CollectorError") == 0


def test_what_a_collector_left_out_is_counted_by_family_as_it_grows() -> None:
    dropped: dict[str, int] = {}
    health = CollectorHealth("llm", target="h:8000", dropped=dropped)
    health.succeeded(at_ms=5_000, at=10.0)
    dropped["llm_requests_total"] = 3
    rows = table(health.samples(at=12.5))
    name = "tocsin_series_dropped_total"
    assert only(rows, name, family="llm_requests_total", target="h:8000") == 3


def test_why_the_last_reading_failed_is_known_until_one_succeeds() -> None:
    health = CollectorHealth("llm")
    told = []
    for error in (TimeoutError(), ValueError("connection refused"), KeyError()):
        health.failed(error)
        told.append(health.error)
    health.succeeded(at_ms=0, at=0.0)
    assert [*told, health.error] == ["missed its deadline", "connection refused", "KeyError", ""]
