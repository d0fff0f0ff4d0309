"""An alert's identity, as Prometheus and Alertmanager compute it."""

from dataclasses import replace

from tocsin_alerting.rules.alert import Alert, AlertState, fingerprint

ALERT = Alert("g/A/1", (("alertname", "A"), ("i", "1")), (), AlertState.FIRING, 1.0, 0)


def test_the_fingerprint_is_that_of_prometheus() -> None:
    """Values of prometheus/common, model/signature_test.go."""
    assert fingerprint(()) == f"{14695981039346656037:016x}"
    labels = (("fear", "love is not enough"), ("name", "garland, briggs"))
    assert fingerprint(labels) == f"{5799056148416392346:016x}"


def test_it_depends_on_labels_alone_and_not_on_their_order() -> None:
    assert fingerprint(ALERT.labels) == fingerprint(ALERT.labels[::-1])
    assert replace(ALERT, value=2.0, rule="other").fingerprint == ALERT.fingerprint
    assert fingerprint((("ab", "c"),)) != fingerprint((("a", "bc"),))


def test_the_name_is_a_label() -> None:
    assert ALERT.name == "A"
    assert replace(ALERT, labels=()).name == ""
