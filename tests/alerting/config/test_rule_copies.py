"""The last good copies of rule files."""

from pathlib import Path

from tocsin_alerting.config.rule_copies import RuleCopies


def test_what_was_good_is_found_again_and_what_is_broken_keeps_its_copy(tmp_path: Path) -> None:
    copies = RuleCopies.of(str(tmp_path))
    assert copies.text("/etc/a.yml") is None
    copies.keep({"/etc/a.yml": "one", "/etc/b.yml": "two"})
    copies.keep({"/etc/a.yml": "broken", "/etc/b.yml": "two\r\n"}, broken=["/etc/a.yml"])
    assert copies.text("/etc/a.yml") == "one"
    assert copies.text("/etc/b.yml") == "two\n"  # as every file of ours is read
    copies.keep({"/etc/b.yml": "two"})
    assert copies.text("/etc/a.yml") is None  # nobody names it any more


def test_a_disk_that_takes_nothing_costs_the_copies_alone(tmp_path: Path) -> None:
    (tmp_path / "rule-copies").write_text("no directory")
    RuleCopies.of(str(tmp_path)).keep({"a.yml": "one"})
    assert RuleCopies.of(str(tmp_path)).text("a.yml") is None
