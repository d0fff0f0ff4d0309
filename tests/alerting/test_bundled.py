import pytest

from tocsin_alerting.bundled import bundled, names_a_pack, rule_packs


def test_the_rules_are_found_from_a_checkout() -> None:
    assert sorted(bundled("rules").glob("*.yml"))


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="no bundled poems"):
        bundled("poems")


def test_a_pack_has_a_name() -> None:
    packs = rule_packs()
    assert list(packs) == ["bundled", "bundled/llamacpp", "bundled/sglang", "bundled/vllm"]
    assert packs["bundled/vllm"] == str(bundled("rules") / "prometheus" / "vllm.yml")
    assert all(map(names_a_pack, [*packs, "bundled/none"]))
    paths = ("mine.yml", "bundled.yml", "bundled/vllm.yml", "bundled/*", "bundled/a/b", "a/bundled")
    assert not any(map(names_a_pack, paths))
