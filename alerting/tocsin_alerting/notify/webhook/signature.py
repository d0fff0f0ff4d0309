"""Standard Webhooks signatures: the receiver can tell that a message is ours, whole and fresh.

Source: standard-webhooks/spec/standard-webhooks.md. Signed is `id.timestamp.body` with HMAC-SHA256.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence

from tocsin_alerting.notify.secret import Secret

_PREFIX = "whsec_"


def signing_key(secret: Secret) -> bytes:
    """The key inside `whsec_BASE64` (24 to 64 bytes). Raises ValueError for anything else."""
    text = secret.value.removeprefix(_PREFIX)
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if not secret.value.startswith(_PREFIX) or not 24 <= len(key) <= 64:
        raise ValueError(f"a signing secret is {_PREFIX} and 24 to 64 bytes in base64")
    return key


def signed_headers(
    keys: Sequence[bytes], message_id: str, timestamp_s: int, body: bytes
) -> dict[str, str]:
    """The three headers of a signed request, with a signature by each key: a receiver that knows
    one of them takes it."""
    content = f"{message_id}.{timestamp_s}.".encode() + body
    digests = (hmac.digest(key, content, hashlib.sha256) for key in keys)
    signatures = (f"v1,{base64.b64encode(digest).decode()}" for digest in digests)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(signatures),
    }
