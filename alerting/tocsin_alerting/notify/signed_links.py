"""The links in messages by which somebody answers from a phone, and the key that signs them.

A link is bound to one incident (its number and its `uid`), and names whom it was sent to: the
contact, or the receiver of a room with many readers. It is whole in itself: nothing is stored, so
that a message that is tried again has the same link, and a broken journal locks nobody out. The key
is a file of its own; to remove it ends every link that there is.
"""

import base64
import binascii
import hmac
import json
import logging
import os
import re
import secrets
from dataclasses import astuple, dataclass
from pathlib import Path

from tocsin_alerting.incidents.notification import Notification
from tocsin_exporter.files import file_bytes

log = logging.getLogger(__name__)

KEY_FILE = "link.key"
_KEY_BYTES, _MAC_BYTES = 32, 20
_MOST_TEXT = 1000  # characters of a token
_FORM_MS = 12 * 3_600_000  # how long a page may lie open before it is answered
_NONCE_BYTES = 12
_FORM = re.compile(r"([A-Za-z0-9_-]{16})\.([0-9]{1,15})\.([A-Za-z0-9_-]+)")


@dataclass(frozen=True, slots=True)
class LinkTarget:
    """What a link stands for. `contact` is whom it was sent to, "" where everybody in the room that
    `receiver` writes to may have it; with a contact `receiver` is "". `generation` is of the page
    that a button stands below; what opens the incident as it is now has none."""

    incident: int
    uid: str
    contact: str
    receiver: str = ""
    generation: int = 0


class SignedLinks:
    """Links below `external_url`; before `begin`, or without `enabled`, there are none."""

    def __init__(self, external_url: str = "", enabled: bool = True) -> None:
        self._base = external_url.rstrip("/")
        self._enabled = enabled
        self._key = b""

    def __repr__(self) -> str:
        return f"SignedLinks({self._base})"

    def begin(self, folder: Path) -> None:
        """Read the key in `folder`, or make it. Where that fails the links of this run end with it:
        nobody is paged later for that."""
        if not self._enabled:
            return
        path = folder / KEY_FILE
        try:
            self._key = _key_in(path)
        except OSError as error:
            self._key = secrets.token_bytes(_KEY_BYTES)
            log.error(
                "failed to keep the key of links in messages; they end with this run: %s: %s",
                path,
                error.strerror or error,
            )

    def begin_apart(self) -> None:
        """With a key of this run alone, for links to look at: no agent takes them."""
        if self._enabled:
            self._key = secrets.token_bytes(_KEY_BYTES)

    def url(self, notification: Notification) -> str:
        """Where the addressee of a message answers; "" where it is about no incident."""
        if not self._key or not self._base or not notification.incident:
            return ""
        target = LinkTarget(
            notification.incident,
            notification.key.partition("/")[0],
            notification.contact,
            "" if notification.contact else notification.receiver,
        )
        return f"{self._base}/links/{self.token(target)}"

    def token(self, target: LinkTarget) -> str:
        parts: tuple[int | str, ...] = astuple(target)
        parts = parts if target.generation else parts[:-1]  # as it always was
        written = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
        body = written.encode("utf-8", "surrogatepass")
        return _text(self._mac(b"link", body) + body)

    def target(self, token: str) -> LinkTarget | None:
        """What it stands for; None for one that we did not sign exactly so."""
        if not self._key or len(token) > _MOST_TEXT:
            return None
        signed = _bytes(token)
        mac, body = signed[:_MAC_BYTES], signed[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(b"link", body)):
            return None
        return LinkTarget(*json.loads(body.decode("utf-8", "surrogatepass")))

    def seal(self, kind: str, body: bytes) -> bytes:
        """What only this agent can make of `body`, the same after a restart; before `begin` it
        proves nothing."""
        return self._mac(kind.encode(), body)

    def form(self, token: str, now_ms: int) -> str:
        """What a form of the page behind `token` carries, so that no other page can post it."""
        nonce = _text(secrets.token_bytes(_NONCE_BYTES))
        return f"{nonce}.{now_ms}.{_text(self._form_mac(token, nonce, now_ms))}"

    def form_nonce(self, token: str, form: str, now_ms: int) -> str:
        """The name of the form, the same whenever it is posted; "" for one that is not of the page
        behind `token`, or lay open too long."""
        match = _FORM.fullmatch(form)
        if match is None:
            return ""
        nonce, issued_ms = match[1], int(match[2])
        right = hmac.compare_digest(_bytes(match[3]), self._form_mac(token, nonce, issued_ms))
        return nonce if right and abs(now_ms - issued_ms) <= _FORM_MS else ""

    def _form_mac(self, token: str, nonce: str, issued_ms: int) -> bytes:
        return self._mac(b"form", f"{token} {nonce} {issued_ms}".encode())

    def _mac(self, kind: bytes, body: bytes) -> bytes:
        return hmac.digest(self._key, kind + b"\0" + body, "sha256")[:_MAC_BYTES]


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    """Nothing for what `_text` would write otherwise: of one link there is one spelling."""
    try:
        data = base64.urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4))
    except (ValueError, binascii.Error):
        return b""
    return data if _text(data) == text else b""


def _key_in(path: Path) -> bytes:
    """Raises OSError. One that is damaged is replaced: what it signed is lost anyway."""
    try:
        kept = file_bytes(path, 1 << 10)
    except FileNotFoundError:
        return _new_key(path)
    try:
        key = bytes.fromhex(kept.decode())
    except ValueError:
        key = b""
    if len(key) == _KEY_BYTES:
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
        return key
    log.warning("key of links in messages was damaged; links sent before fail: %s", path)
    return _new_key(path)


def _new_key(path: Path) -> bytes:
    """Whole or not at all, and on the disk before anything is signed with it."""
    key = secrets.token_bytes(_KEY_BYTES)
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(key.hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return key
