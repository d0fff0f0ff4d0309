"""Alibaba Cloud's signature V3 (ACS3-HMAC-SHA256) of a call in the RPC style.

Read: help.aliyun.com/document_detail/2593177.html, whose fixed example is a test of ours. The
vendor's own signer (alibabacloud-openapi-util 0.2.4) agrees; it is not used, as it brings
cryptography and a client that blocks.
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from tocsin_alerting.notify.http_sender import HttpRequest

_ALGORITHM = "ACS3-HMAC-SHA256"
_NO_BODY = hashlib.sha256(b"").hexdigest()


def signed_call(
    endpoint: str,
    action: str,
    version: str,
    query: Mapping[str, str],
    key: tuple[str, str],
    now_ms: int,
    nonce: str,
) -> HttpRequest:
    """`key` is the AccessKey's id and secret; the parameters go in the URL, as in the vendor's own
    client. `nonce` is never the same twice."""
    access_id, secret = key
    now = datetime.fromtimestamp(now_ms // 1000, UTC)
    headers = {
        "host": urlsplit(endpoint).netloc.rpartition("@")[2],
        "x-acs-action": action,
        "x-acs-content-sha256": _NO_BODY,
        "x-acs-date": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "x-acs-signature-nonce": nonce,
        "x-acs-version": version,
    }
    canonical_query = "&".join(f"{_quoted(k)}={_quoted(v)}" for k, v in sorted(query.items()))
    names = ";".join(sorted(headers))
    canonical_headers = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    lines = ("POST", "/", canonical_query, canonical_headers, names, _NO_BODY)
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    signature = hmac.digest(secret.encode(), f"{_ALGORITHM}\n{digest}".encode(), "sha256").hex()
    authorization = (
        f"{_ALGORITHM} Credential={access_id},SignedHeaders={names},Signature={signature}"
    )
    sent = {**headers, "accept": "application/json", "Authorization": authorization}
    return HttpRequest(f"{endpoint.rstrip('/')}/?{canonical_query}", b"", sent)


def _quoted(text: str) -> str:
    """RFC 3986: all but letters, digits and -_.~ as %XY."""
    return quote(text.encode("utf-8", "replace"), safe="~")
