from pathlib import Path

import pytest

from tocsin_alerting.notify.secret import Secret, Vault, masked


def _vault(files: dict[str, str], **env: str) -> Vault:
    def read(path: Path) -> str:
        if path.name not in files:
            raise FileNotFoundError(2, "No such file or directory")
        return files[path.name]

    return Vault(env, read)


def test_a_file_without_its_line_end() -> None:
    assert _vault({"pw": "s3 cret \r\n"}).secret(Path("pw"), None) == Secret("s3 cret ")


def test_a_variable_and_nothing() -> None:
    assert _vault({}, PW="x").secret(None, "PW") == Secret("x")
    assert _vault({}).secret(None, None) is None


@pytest.mark.parametrize("content", ["", "\n", "hunter2\nmore", "hunter2\x00"])
def test_a_file_that_is_not_one_line_is_refused_unseen(content: str) -> None:
    with pytest.raises(ValueError, match="one line") as refused:
        _vault({"pw": content}).secret(Path("pw"), None)
    assert "hunter2" not in str(refused.value)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="cannot read gone: No such file"):
        _vault({}).secret(Path("gone"), None)
    with pytest.raises(ValueError, match="variable PW is not set"):
        _vault({}, PW="").secret(None, "PW")


def test_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pw").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="not UTF-8"):
        Vault({}, lambda path: path.read_text("utf-8")).secret(tmp_path / "pw", None)


def test_repr_and_str_hide_it() -> None:
    assert "hunter2" not in f"{Secret('hunter2')!r} {Secret('hunter2')}"


def test_masked_covers_the_longest_first_and_stays_one_line() -> None:
    secrets = ["hunter2", "hunter2-long", ""]
    assert masked("a hunter2-long\r\nb hunter2\x07", secrets) == "a *** b ***"
    assert len(masked("x" * 1000, [])) == 300
