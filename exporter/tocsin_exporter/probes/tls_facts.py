"""TLS of a probe: the client's settings, and what the server's certificates say.

Names of subjects are written as Go writes them (RFC 2253, the last part first).
"""

import hashlib
import os
import ssl
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from tocsin_exporter.probes.findings import Findings, ProbeFailed
from tocsin_exporter.probes.modules import TlsClient
from tocsin_exporter.tls import CIPHERS, VERSIONS, pem_file

_NO_CHAIN = -62135596800  # Go's zero time: nothing was verified
_SHORT = {
    "countryName": "C",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "postalCode": "POSTALCODE",
    "serialNumber": "SERIALNUMBER",
}
_GO_ORDER = ("C", "O", "OU", "L", "ST", "STREET", "POSTALCODE", "CN", "SERIALNUMBER")
_GO_NAMES = {openssl: go for go, openssl in CIPHERS.items() if openssl}
_ESCAPED = ',+"\\<>;'


def client_context(settings: TlsClient, use: str) -> ssl.SSLContext:
    """One context for each `use`, which offers protocols of its own; it is used again while its
    files stay as they are, for to make one takes 10 ms. Raises ProbeFailed."""
    files = (settings.ca_file, settings.cert_file, settings.key_file)
    try:
        return _context(settings, use, tuple(_stamp(file) for file in files if file))
    except (OSError, ValueError) as error:
        raise ProbeFailed(f"tls_config cannot be used: {error}") from None


def _stamp(file: Path) -> tuple[int, int]:
    state = os.stat(file)
    return state.st_mtime_ns, state.st_size


@lru_cache(64)
def _context(settings: TlsClient, use: str, _stamps: Sequence[tuple[int, int]]) -> ssl.SSLContext:
    own = settings.ca_file is not None or settings.ca
    context = (
        ssl.create_default_context(cafile=settings.ca_file, cadata=settings.ca or None)
        if own
        else ssl.create_default_context()
    )
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # Go trusts whatever is among the roots
    context.hostname_checks_common_name = False
    context.minimum_version = VERSIONS[settings.min_version or "TLS12"]
    if settings.max_version:
        context.maximum_version = VERSIONS[settings.max_version]
    if use == "grpc":
        context.set_alpn_protocols(["h2"])
    _load_pair(context, settings)
    if settings.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _load_pair(context: ssl.SSLContext, settings: TlsClient) -> None:
    if settings.cert_file is not None:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    elif settings.cert:
        with pem_file(settings.cert.encode()) as cert, pem_file(settings.key.encode()) as key:
            context.load_cert_chain(cert, key)


def record_tls(connection: Any, found: Findings, chain: bool = True, cipher: bool = False) -> None:
    """The metrics of a connection, an SSLObject or SSLSocket after its handshake."""
    shown = _certificates(connection, "get_unverified_chain")
    if not shown:
        return
    ends = [_not_after(one) for one in shown]
    found.set("probe_ssl_earliest_cert_expiry", min(ends))
    found.set("probe_tls_version_info", 1, version=_version(connection))
    if cipher:
        name = (connection.cipher() or ("",))[0]
        found.set("probe_tls_cipher_info", 1, cipher=_GO_NAMES.get(name, name))
    if chain:
        verified = connection.context.verify_mode != ssl.CERT_NONE
        whole = _certificates(connection, "get_verified_chain") if verified else []
        end = min((_not_after(one) for one in whole), default=_NO_CHAIN)
        found.set("probe_ssl_last_chain_expiry_timestamp_seconds", end)
    found.set("probe_ssl_last_chain_info", 1, **_leaf(shown[0]))


def _certificates(connection: Any, method: str) -> list[Any]:
    """Of CPython's own object: the public methods came with 3.13 and give bytes alone."""
    return list(getattr(connection._sslobj, method)() or [])


def _not_after(certificate: Any) -> int:
    return ssl.cert_time_to_seconds(certificate.get_info()["notAfter"])


def _version(connection: Any) -> str:
    name = str(connection.version() or "")
    return {"TLSv1": "TLS 1.0"}.get(name, name.replace("TLSv", "TLS ")) or "unknown"


def _leaf(certificate: Any) -> dict[str, str]:
    about: Mapping[str, Any] = certificate.get_info()
    der = certificate.public_bytes(2)  # _ssl.ENCODING_DER
    names = [str(value) for kind, value in about.get("subjectAltName", ()) if kind == "DNS"]
    return {
        "fingerprint_sha256": hashlib.sha256(der).hexdigest(),
        "subject": _go_name(about.get("subject", ())),
        "issuer": _go_name(about.get("issuer", ())),
        "subjectalternative": ",".join(names),
        "serialnumber": str(about.get("serialNumber", "")).lower().removeprefix("00"),
    }


def _go_name(parts: Sequence[Sequence[tuple[str, str]]]) -> str:
    """As Go's pkix.Name: by attribute in its order, several values of one joined, all reversed."""
    held: dict[str, list[str]] = {}
    for name, value in (pair for part in parts for pair in part):
        held.setdefault(_SHORT.get(name, name), []).append(_escaped(value))
    known = [name for name in _GO_ORDER if name in held]
    unknown = [name for name in held if name not in _GO_ORDER]
    single = ("CN", "SERIALNUMBER")
    texts = [
        f"{name}={held[name][-1]}"
        if name in single
        else "+".join(f"{name}={value}" for value in held[name])
        for name in (*known, *unknown)
    ]
    return ",".join(reversed(texts))


def _escaped(value: str) -> str:
    text = "".join(f"\\{c}" if c in _ESCAPED else c for c in value)
    if text.startswith((" ", "#")):
        text = "\\" + text
    return text[:-1] + "\\ " if text.endswith(" ") and len(text) > 1 else text
