"""TLS of a server, by the keys of exporter-toolkit's `tls_server_config` and with their meaning.

Nothing but the standard library is imported here.
"""

import os
import ssl
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
CURVES = {
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519": "X25519",
}
_TLS13_SUITES = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
CIPHERS: Mapping[str, str] = {  # Go's names, and OpenSSL's; those of TLS 1.3 are always offered
    **dict.fromkeys(_TLS13_SUITES, ""),
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
}
_ASKS = {  # whether a client's certificate is asked for, and what of one that gives none
    "": ssl.CERT_NONE,
    "NoClientCert": ssl.CERT_NONE,
    "RequestClientCert": ssl.CERT_NONE,  # asked for and not looked at: the same are let in
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
CLIENT_AUTH = (*_ASKS, "RequireAnyClientCert", "RequireClientCert")
_UNREADABLE = ("cert_file", "it or key_file is damaged: OpenSSL cannot read them")
_MISMATCH = ("key_file", "is not the key of the certificate in cert_file")
_REASONS = {
    "KEY_VALUES_MISMATCH": _MISMATCH,
    "KEY_TYPE_MISMATCH": _MISMATCH,
    "EE_KEY_TOO_SMALL": ("cert_file", "its key is too short; RSA takes 2048 bits at least"),
    "CA_MD_TOO_WEAK": ("cert_file", "is signed in a way that is not safe any more; use SHA-256"),
}
_SAN_KINDS = ("DNS", "email", "IP Address", "URI")
_MOST_NAME = 64


class InvalidTls(ValueError):
    """`key` of tls_server_config is what is wrong."""

    def __init__(self, key: str, words: str) -> None:
        super().__init__(words)
        self.key = key


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """The keys of `tls_server_config`, with what stands in the files: PEM."""

    certificate: bytes
    key: bytes = field(repr=False)
    client_authorities: bytes = b""
    client_auth: str = ""
    client_allowed_sans: Sequence[str] | None = None
    min_version: str = "TLS12"
    max_version: str = "TLS13"
    cipher_suites: Sequence[str] = ()
    curve_preferences: Sequence[str] = ()
    prefer_server_cipher_suites: bool = True


@dataclass(frozen=True, slots=True)
class ServerTls:
    """How handshakes are made. `requires`: a client without a certificate that our authorities
    signed has none; `verifies`: one that has such a certificate is known by it."""

    context: ssl.SSLContext
    verifies: bool = False
    requires: bool = False
    allowed_sans: frozenset[str] | None = None

    def client(self, connection: ssl.SSLObject) -> str | None:
        """Whose verified certificate the client has shown; None without any. Raises ValueError
        for one whose names are none of those that are allowed."""
        shown: Mapping[str, Any] = connection.getpeercert() or {} if self.verifies else {}
        if not shown:
            return None
        others = shown.get("subjectAltName", ())
        names = [str(value) for kind, value in others if kind in _SAN_KINDS]
        if self.allowed_sans is not None and self.allowed_sans.isdisjoint(names):
            raise ValueError("none of the names in the client's certificate is allowed")
        subject = {key: value for part in shown.get("subject", ()) for key, value in part}
        name = str(subject.get("commonName") or next(iter(names), "") or "client certificate")
        return "".join(c if c.isprintable() else "?" for c in name)[:_MOST_NAME]


def server_tls(settings: TlsSettings) -> ServerTls:
    """Raises InvalidTls for what cannot be served."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    _set_versions(context, settings)
    _set_ciphers(context, settings)
    if len(settings.curve_preferences) == 1:  # of several, Python offers all that OpenSSL has
        context.set_ecdh_curve(CURVES[settings.curve_preferences[0]])
    _load_certificate(context, settings)
    _set_client_auth(context, settings)
    sans = settings.client_allowed_sans
    return ServerTls(
        context,
        verifies=context.verify_mode != ssl.CERT_NONE,
        requires=context.verify_mode == ssl.CERT_REQUIRED,
        allowed_sans=None if sans is None else frozenset(sans),
    )


def _set_versions(context: ssl.SSLContext, settings: TlsSettings) -> None:
    names = list(VERSIONS)
    if names.index(settings.min_version) > names.index(settings.max_version):
        raise InvalidTls(
            "min_version",
            f"{settings.min_version} is above max_version, {settings.max_version}; no client could"
            " connect",
        )
    with warnings.catch_warnings():  # 1.0 and 1.1 are old: whoever writes them knows it
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = VERSIONS[settings.min_version]
        context.maximum_version = VERSIONS[settings.max_version]


def _set_ciphers(context: ssl.SSLContext, settings: TlsSettings) -> None:
    if not settings.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    names = [CIPHERS[suite] for suite in settings.cipher_suites if CIPHERS[suite]]
    if settings.cipher_suites and not names:  # those of TLS 1.3 alone
        if settings.max_version != "TLS13":
            raise InvalidTls("cipher_suites", "all of them are of TLS 1.3, above max_version")
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return
    old = ["@SECLEVEL=0"] if settings.min_version in ("TLS10", "TLS11") else []
    if names or old:
        context.set_ciphers(":".join([*(names or ["DEFAULT"]), *old]))


def _load_certificate(context: ssl.SSLContext, settings: TlsSettings) -> None:
    if b"-----BEGIN CERTIFICATE-----" not in settings.certificate:
        raise InvalidTls("cert_file", "holds no certificate in PEM")
    if b"PRIVATE KEY-----" not in settings.key:
        raise InvalidTls("key_file", "holds no private key in PEM")
    try:
        with pem_file(settings.certificate) as certificate, pem_file(settings.key) as key:
            context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        raise InvalidTls(*_REASONS.get(error.reason or "", _UNREADABLE)) from None
    except ValueError as error:
        raise InvalidTls("key_file", str(error)) from None


def _set_client_auth(context: ssl.SSLContext, settings: TlsSettings) -> None:
    if settings.client_auth not in _ASKS:
        raise InvalidTls(
            "client_auth_type",
            f"{settings.client_auth} lets in everybody who makes himself a certificate, and is not"
            " supported; use RequireAndVerifyClientCert with client_ca_file",
        )
    asks = _ASKS[settings.client_auth]
    if settings.client_authorities:
        if settings.client_auth in ("", "NoClientCert"):
            raise InvalidTls(
                "client_ca_file",
                "no certificate is asked for; set client_auth_type: RequireAndVerifyClientCert",
            )
        try:
            context.load_verify_locations(cadata=settings.client_authorities.decode("ascii"))
        except (ssl.SSLError, ValueError):
            raise InvalidTls("client_ca_file", "holds no certificate in PEM") from None
    elif asks != ssl.CERT_NONE:
        raise InvalidTls(
            "client_auth_type", "needs client_ca_file: who signs the certificates of clients"
        )
    context.verify_mode = asks


@contextmanager
def pem_file(content: bytes) -> Iterator[str]:
    """A file in memory: OpenSSL reads no certificate from anywhere else, and what is read once
    fits together though its files are just being replaced."""
    descriptor = os.memfd_create("pem")
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _no_password() -> str:
    raise ValueError("the key is encrypted; write it without a passphrase, in a file of mode 0600")
