"""Links in messages: what one stands for, that nobody can change it, and the key that signs it."""

import logging
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.notifications import notification
from tocsin_alerting.notify.signed_links import KEY_FILE, LinkTarget, SignedLinks

BASE = "https://phone.example/tocsin/"
TARGETS = st.builds(
    LinkTarget,
    st.integers(1, 10**12),
    st.text("0123456789abcdef", min_size=16, max_size=16),
    st.text(max_size=30),
    st.text(max_size=30),
)


@pytest.fixture
def links(tmp_path: Path) -> SignedLinks:
    made = SignedLinks(BASE)
    made.begin(tmp_path)
    return made


def with_key() -> SignedLinks:
    made = SignedLinks(BASE)
    made._key = b"k" * 32
    return made


@given(TARGETS)
def test_a_token_stands_for_what_it_was_made_of(target: LinkTarget) -> None:
    links = with_key()
    assert links.target(links.token(target)) == target


@given(TARGETS, st.data())
def test_no_bit_can_be_changed(target: LinkTarget, data: st.DataObject) -> None:
    links = with_key()
    token = links.token(target)
    bit = data.draw(st.integers(0, 8 * len(token) - 1))
    changed = bytearray(token.encode())
    changed[bit // 8] ^= 1 << bit % 8
    assert links.target(changed.decode("latin-1")) is None


def test_every_bit_of_one(links: SignedLinks) -> None:
    token = links.token(LinkTarget(42, "0f9002711922ec9b", "li"))
    for bit in range(8 * len(token)):
        changed = bytearray(token.encode())
        changed[bit // 8] ^= 1 << bit % 8
        assert links.target(changed.decode("latin-1")) is None


@given(st.text(max_size=200))
def test_what_somebody_makes_up_stands_for_nothing(text: str) -> None:
    assert with_key().target(text) is None


def test_longer_or_shorter_it_is_none(links: SignedLinks) -> None:
    token = links.token(LinkTarget(42, "u", "li"))
    changed = [token + "=", token + "A", token[:-1], token[1:], f" {token}", token * 20, "", "é"]
    assert [links.target(text) for text in changed] == [None] * 8


def test_the_mac_of_one_fits_no_other(links: SignedLinks) -> None:
    """Another name, another incident: the signed part is exchanged, the signature kept."""
    import base64

    def raw(target: LinkTarget) -> bytes:
        token = links.token(target)
        return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))

    mine = raw(LinkTarget(42, "u", "li"))
    for other in (
        LinkTarget(42, "u", "wang"),
        LinkTarget(43, "u", "li"),
        LinkTarget(42, "v", "li"),
    ):
        forged = base64.urlsafe_b64encode(mine[:20] + raw(other)[20:]).decode().rstrip("=")
        assert links.target(forged) is None


def test_a_link_names_its_contact_or_the_room(links: SignedLinks) -> None:
    sent = notification(key="0f90/1/0/0/opened/1/ops/", contact="li")
    url = links.url(sent)
    assert url.startswith("https://phone.example/tocsin/links/")
    token = url.rpartition("/")[2]
    assert links.target(token) == LinkTarget(42, "0f90", "li", "")
    room = links.url(notification(key="0f90/1/0/0/opened/1/ops/")).rpartition("/")[2]
    assert links.target(room) == LinkTarget(42, "0f90", "", "ops")
    assert links.url(sent) == url  # a message that is tried again has the same


def test_there_is_none_where_there_is_no_incident_no_key_or_no_wish(tmp_path: Path) -> None:
    links = SignedLinks(BASE)
    assert links.url(notification()) == ""
    token = with_key().token(LinkTarget(1, "u", "li"))
    assert links.target(token) is None
    links.begin(tmp_path)
    assert links.url(notification(incident=0)) == ""
    off = SignedLinks(BASE, enabled=False)
    off.begin(tmp_path)
    assert (off.url(notification()), off.target(token)) == ("", None)


def test_the_key_is_made_once_and_is_its_users_alone(tmp_path: Path) -> None:
    made = SignedLinks(BASE)
    made.begin(tmp_path)
    token = made.token(LinkTarget(1, "u", "li"))
    path = tmp_path / KEY_FILE
    assert path.stat().st_mode & 0o777 == 0o600 and [*tmp_path.iterdir()] == [path]
    path.chmod(0o644)
    again = SignedLinks(BASE)
    again.begin(tmp_path)
    assert again.target(token) == LinkTarget(1, "u", "li")
    assert path.stat().st_mode & 0o777 == 0o600
    assert made._key.hex() not in repr(made)


def test_another_key_ends_all_links(tmp_path: Path) -> None:
    made = SignedLinks(BASE)
    made.begin(tmp_path)
    token = made.token(LinkTarget(1, "u", "li"))
    (tmp_path / KEY_FILE).unlink()
    made.begin(tmp_path)
    assert made.target(token) is None


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"00" * 31, b"zz" * 32])
def test_a_damaged_key_is_replaced(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / KEY_FILE).write_bytes(damage)
    links = SignedLinks(BASE)
    links.begin(tmp_path)
    assert "damaged" in caplog.text
    token = links.token(LinkTarget(1, "u", "li"))
    again = SignedLinks(BASE)
    again.begin(tmp_path)
    assert again.target(token) == LinkTarget(1, "u", "li")


def test_where_no_key_can_be_kept_links_last_as_long_as_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    links = SignedLinks(BASE)
    with caplog.at_level(logging.ERROR):
        links.begin(tmp_path / "nowhere")
    assert "failed to keep the key" in caplog.text and "they end with this run" in caplog.text
    token = links.token(LinkTarget(1, "u", "li"))
    assert links.target(token) == LinkTarget(1, "u", "li")
    os.mkfifo(tmp_path / KEY_FILE)  # nobody waits for what never comes
    links.begin(tmp_path)
    assert links.url(notification())


def test_a_form_is_of_one_link_and_of_its_time(links: SignedLinks) -> None:
    form = links.form("a", 1_000)
    nonce = links.form_nonce("a", form, 2_000)
    assert len(nonce) == 16 and links.form_nonce("a", form, 9_000) == nonce
    assert links.form_nonce("b", form, 2_000) == ""
    hours_ms = 12 * 3_600_000
    assert links.form_nonce("a", form, 1_000 + hours_ms) == nonce
    assert links.form_nonce("a", form, 1_001 + hours_ms) == ""
    later = form.replace(".1000.", f".{1_000 + hours_ms}.")
    assert links.form_nonce("a", later, 1_001 + hours_ms) == ""
    assert [links.form_nonce("a", text, 1) for text in ("", "x", form + "A", "A" + form)] == [
        ""
    ] * 4
    assert links.form("a", 1_000) != form
    assert links._mac(b"form", b"x") != links._mac(b"link", b"x")  # neither passes for the other
