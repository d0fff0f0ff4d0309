"""`alertctl templates`: what is in force and from where, and what is wrong, by file and line."""

from pathlib import Path

from support.command_line import alertctl
from tocsin_alerting.notify.own_templates import bundled_source

CONFIG = "language: zh\ntemplates: texts\nrule_files: []\n"


def _set_up(folder: Path, **files: str) -> Path:
    (folder / "texts").mkdir()
    for name, text in files.items():
        stem, _, end = name.rpartition("_")
        (folder / "texts" / f"{stem.replace('_', '.')}.{end}").write_text(text)
    path = folder / "tocsin.yml"
    path.write_text(CONFIG)
    return path


def test_each_says_where_it_is_from_and_what_it_sees(tmp_path: Path) -> None:
    config = _set_up(tmp_path, subject_zh_txt="告警 {{ what }}\n", text_en_txt="x")
    ended = alertctl("templates", "show", "--config.file", str(config))
    assert ended.code == 0, ended.err
    rows = dict(line.split(None, 1) for line in ended.out.splitlines() if line.split(None, 1)[1:])
    assert rows["subject.txt"].strip() == str(tmp_path / "texts" / "subject.zh.txt")
    assert rows["text.txt"].strip() == rows["page.html"].strip() == "bundled"
    assert rows["machine"].strip() == "the host that it is about"
    shown = alertctl("templates", "show", "subject.txt", "--config.file", str(config))
    assert shown.out == "告警 {{ what }}\n"
    assert alertctl("templates", "show", "text.txt").out == bundled_source("text.txt")
    unknown = alertctl("templates", "show", "nothing.txt")
    assert unknown.code == 1 and "there are subject.txt, text.txt" in unknown.err


def test_a_check_renders_all_and_names_file_and_line(tmp_path: Path) -> None:
    config = _set_up(tmp_path, subject_txt="{{ what }}")
    for command in (["templates", "check", "--config.file", str(config)], ["check", str(config)]):
        ended = alertctl(*command)
        assert "1 template" in ended.out and "SUCCESS" in ended.out, ended.err
    (tmp_path / "texts" / "line.txt").write_text("a\n{{ nope }}")
    place = f"{tmp_path}/texts/line.txt:2: 'nope' is undefined"
    for command in (["templates", "check", "--config.file", str(config)], ["check", str(config)]):
        ended = alertctl(*command)
        assert ended.code == 1 and place in ended.err and "FAILED: 1 problem" in ended.err
    (tmp_path / "bare.yml").write_text("rule_files: []\nlanguage: zh\ntemplates: nowhere\n")
    gone = alertctl("check", str(tmp_path / "bare.yml"))
    assert (
        gone.code == 1
        and (
            f"{tmp_path}/bare.yml:3:12: templates: {tmp_path}/nowhere: No such file or directory;"
            " correct the path"
        )
        in gone.err
    )
    alone = alertctl("templates", "check", str(tmp_path / "texts"))
    assert alone.code == 1 and place in alone.err
    assert "bundled ones are in force" in alertctl("templates", "check").out
