"""A configuration file that is broken does not keep the pager down: its last good copy runs."""

import os
import stat
from pathlib import Path

import pytest

from tocsin_alerting.config.config_copy import (
    ConfigCopy,
    StorageNote,
    first_config,
    is_empty,
    storage_path_in,
)
from tocsin_alerting.listeners import CannotStart
from tocsin_alerting.startup import UpOptions, load_config
from tocsin_alerting.yaml_document import InvalidDocument

GOOD = """\
storage: {{path: {data}}}
templates: words
receivers: {{hook: {{type: webhook, url: "http://127.0.0.1:9/s3cret", secret_file: key}}}}
"""
BROKEN = (
    "receivers: [",
    "recievers: {}\n",
    "rule_files: 1\n",
    "\ttab",
    "",
    "# gone\n",
    "\0",
    "---\n",
    "\ufeff",
    "\ufeff---\n# x\n",
    "{}\n",
    "--- null # y\n...\n",
    "%YAML 1.2\n---\n",
)


def good(folder: Path) -> ConfigCopy:
    """A file that was good once, with what it names beside it."""
    text = GOOD.format(data=folder / "data")
    (folder / "tocsin.yml").write_text(text)
    (folder / "key").write_text("whsec_" + "c2VjcmV0" * 5)
    (folder / "words").mkdir()
    copy = ConfigCopy.of(str(folder / "data"), folder / "tocsin.yml")
    copy.keep(text)
    return copy


def start(folder: Path, *, strict: bool = False) -> tuple[list[str], str]:
    """The receivers that a start would have, and what was wrong."""
    options = UpOptions(config_file=folder / "tocsin.yml", storage_path=str(folder / "data"))
    found = first_config(
        folder / "tocsin.yml",
        options.storage_path,
        lambda text: load_config(options, text),
        strict=strict,
    )
    return list(found.config.receivers), found.broken


@pytest.mark.parametrize("text", BROKEN)
def test_the_last_good_copy_runs(tmp_path: Path, text: str) -> None:
    good(tmp_path)
    (tmp_path / "tocsin.yml").write_text(text)
    receivers, broken = start(tmp_path)
    assert receivers == ["hook"], "and what it names is found beside the file itself"
    assert f"{tmp_path / 'tocsin.yml'}:" in broken and "s3cret" not in broken
    if not is_empty(text):
        with pytest.raises(InvalidDocument, match="tocsin.yml:"):
            start(tmp_path, strict=True)


@pytest.mark.parametrize(
    "text", ["--", "---\nversion: 1\n", "{version: 1}\n", "---\na", "%a: 1\nb: 2\n"]
)
def test_a_file_that_says_something_is_not_empty(text: str) -> None:
    assert not is_empty(text)


def test_a_file_that_is_gone_is_broken_as_well(tmp_path: Path) -> None:
    good(tmp_path)
    (tmp_path / "tocsin.yml").unlink()
    receivers, broken = start(tmp_path)
    assert receivers == ["hook"] and "cannot read this file" in broken
    with pytest.raises(CannotStart, match="no such file"):
        start(tmp_path, strict=True)


def test_without_a_copy_of_this_very_file_a_start_fails_as_it_always_did(tmp_path: Path) -> None:
    copy = good(tmp_path)
    assert start(tmp_path) == (["hook"], "")
    (tmp_path / "tocsin.yml").write_text("receivers: [")
    (tmp_path / "other.yml").write_text("receivers: [")
    assert ConfigCopy.of(str(tmp_path / "data"), tmp_path / "other.yml").text() is None
    (tmp_path / "key").unlink()  # with which the copy is of no use either
    with pytest.raises(InvalidDocument, match="tocsin.yml:") as failed:
        start(tmp_path)
    assert "key" not in str(failed.value), "what is wrong in the file itself is told"
    copy.place.unlink()
    with pytest.raises(InvalidDocument, match="tocsin.yml:"):
        start(tmp_path)
    (tmp_path / "tocsin.yml").write_text("")
    assert start(tmp_path) == (["log"], ""), "one that was always empty has nothing to lose"


def test_a_copy_is_nobody_elses_business(tmp_path: Path) -> None:
    copy, before = good(tmp_path), os.umask(0)
    try:
        copy.keep("version: 1\n")
    finally:
        os.umask(before)
    assert stat.S_IMODE(copy.place.stat().st_mode) == 0o600
    assert stat.S_IMODE(copy.place.parent.stat().st_mode) == 0o700
    assert [path.name for path in copy.place.parent.iterdir()] == [copy.place.name]
    copy.place.chmod(0o620)
    assert copy.text() is None, "others could have put a program into it"
    copy.place.chmod(0o600)
    (tmp_path / "strange").write_text("version: 1\n")
    copy.place.unlink()
    copy.place.symlink_to(tmp_path / "strange")
    assert copy.text() is None


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770])
def test_a_copy_in_a_directory_that_others_can_write_is_not_believed(
    tmp_path: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    """They could put another file of ours in its place. The next good start takes it back."""
    copy = good(tmp_path)
    copy.place.parent.chmod(mode)
    (tmp_path / "tocsin.yml").write_text("receivers: [")
    with pytest.raises(InvalidDocument, match="tocsin.yml:"):
        start(tmp_path)
    assert f"can be written by others (mode {mode:04o})" in caplog.text
    copy.place.write_text("version: 1\n# theirs\n")
    copy.keep("version: 1\n")
    assert stat.S_IMODE(copy.place.parent.stat().st_mode) == 0o700
    assert copy.text() == "version: 1\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_a_directory_of_somebody_else_is_not_believed_and_not_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = good(tmp_path)
    os.chown(copy.place.parent, 65534, 65534)
    assert copy.text() is None and "belongs to another user (65534)" in caplog.text
    copy.keep("version: 1\n")
    assert "failed to keep a copy" in caplog.text
    os.chown(copy.place.parent, os.geteuid(), os.getegid())
    assert "s3cret" in (copy.text() or ""), "it is what it was"


@pytest.mark.parametrize("text", [None, "", "receivers: ["])
def test_a_file_that_no_longer_names_its_data_directory_is_found_a_copy_of(
    tmp_path: Path, text: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    good(tmp_path)
    file = tmp_path / "tocsin.yml"
    StorageNote.of(file, {}).keep("data", file.read_text())
    monkeypatch.chdir(tmp_path.parent)  # a relative path is noted as the place that it was
    _say(file, text)
    options = UpOptions(config_file=file)
    found = first_config(file, None, lambda text: load_config(options, text), strict=False)
    assert list(found.config.receivers) == ["hook"] and found.broken


def _say(file: Path, text: str | None) -> None:
    if text is None:
        file.unlink()
    else:
        file.write_text(text)


def test_the_note_is_where_it_can_be_written_and_goes_when_no_path_is_named(tmp_path: Path) -> None:
    file, state = tmp_path / "none" / "t.yml", tmp_path / "state"
    (tmp_path / "none").write_text("no directory")
    note = StorageNote.of(file, {"STATE_DIRECTORY": f"{state}:/other"})
    note.keep("/srv/t", "storage: {path: /srv/t}")
    assert note.storage_path() == "/srv/t"
    (kept,) = (path for path in state.rglob("*") if path.is_file())
    kept.chmod(0o666)
    assert note.storage_path() == "", "others could have led us to a copy of another time"
    note.keep("/srv/t", "storage: {path: /srv/t}")
    note.keep("data", "version: 1\n")
    assert note.storage_path() == "" and not kept.exists()


def test_a_disk_that_takes_nothing_costs_the_copy_alone(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no directory")
    copy = ConfigCopy.of(str(tmp_path / "data"), tmp_path / "tocsin.yml")
    copy.keep("version: 1\n")
    assert copy.text() is None


def test_the_data_directory_is_found_in_what_is_no_yaml_any_more() -> None:
    for text, found in (
        ("a: [\nstorage: {path: /var/lib/tocsin}\n", "/var/lib/tocsin"),
        ("storage: {retention: 1d, path: '/srv/t', size: 1GiB}\n}", "/srv/t"),
        ('storage:\n  # where\n  retention: 1d\n\n  path: "d/x"  # here\nb: }', "d/x"),
        ("worker: {model_path: /m}\nstorage: {retention: 1d}\nlinks:\n  path: x\n", "data"),
        ("", "data"),
    ):
        assert storage_path_in(text, "data") == found
