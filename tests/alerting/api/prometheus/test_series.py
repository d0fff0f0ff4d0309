"""Escaped label names: the cases of Prometheus's own value encoding."""

import pytest

from tocsin_alerting.api.prometheus.series import unescape_label_name


@pytest.mark.parametrize(
    ("escaped", "name"),
    [
        ("U__http_2e_status", "http.status"),
        ("U__http_2E_status", "http.status"),
        ("U__no__escape", "no_escape"),
        ("U___65e5__5fd7_", "日志"),
        ("U___1f525_", "🔥"),
        ("U_____5f_", "__"),
        ("U__a_20_b_3a_c", "a b:c"),
        ("U__", ""),
    ],
)
def test_an_escaped_name_is_decoded(escaped: str, name: str) -> None:
    assert unescape_label_name(escaped) == name


@pytest.mark.parametrize(
    "name",
    ["instance", "u__x", "U_x", "U__bad_zz_", "U__open_2e", "U__end_", "U___d800_", "U___10ffff_"],
)
def test_what_is_not_wholly_in_the_encoding_stands_for_itself(name: str) -> None:
    assert unescape_label_name(name) == name
