import pytest

from tocsin_alerting.bundled import bundled


def test_the_rules_are_found_from_a_checkout() -> None:
    assert sorted(bundled("rules").glob("*.yml"))


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="no bundled poems"):
        bundled("poems")
