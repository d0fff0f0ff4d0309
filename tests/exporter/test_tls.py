"""TLS by the keys of exporter-toolkit: real handshakes in memory."""

import ssl
from dataclasses import replace
from functools import cache

import pytest
from cryptography.hazmat.primitives import serialization

from support.web_pki import Pki
from tocsin_exporter.tls import CIPHERS, InvalidTls, ServerTls, TlsSettings, server_tls


@cache
def pki() -> Pki:
    return Pki()


@cache
def settings() -> TlsSettings:
    pair = pki().pair("localhost")
    return TlsSettings(pair.certificate, pair.key)


def client(**versions: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=pki().authority.decode())
    for name, version in versions.items():
        setattr(context, name, version)
    return context


def shaken(tls: ServerTls, context: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Client and server after the handshake. Raises SSLError, of either side."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = tls.context.wrap_bio(to_server, to_client, server_side=True)
    theirs = context.wrap_bio(to_client, to_server, server_hostname="localhost")
    for _ in range(4):
        for side in (theirs, ours):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
    return theirs, ours


def test_by_default_it_is_tls_1_2_or_1_3_and_asks_nobody_who_he_is() -> None:
    tls = server_tls(settings())
    assert not tls.verifies and not tls.requires
    for version, name in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
        theirs, ours = shaken(tls, client(maximum_version=version))
        assert theirs.version() == name
        assert tls.client(ours) is None


@pytest.mark.parametrize(
    ("lowest", "highest", "version"), [("TLS13", "TLS13", "TLSv1.3"), ("TLS12", "TLS12", "TLSv1.2")]
)
def test_versions_are_bounded(lowest: str, highest: str, version: str) -> None:
    tls = server_tls(replace(settings(), min_version=lowest, max_version=highest))
    assert shaken(tls, client())[0].version() == version
    other = ssl.TLSVersion.TLSv1_2 if version == "TLSv1.3" else ssl.TLSVersion.TLSv1_3
    with pytest.raises(ssl.SSLError):
        shaken(tls, client(minimum_version=other, maximum_version=other))


def test_old_versions_are_taken_from_who_writes_them() -> None:
    tls = server_tls(replace(settings(), min_version="TLS10"))
    assert tls.context.minimum_version == ssl.TLSVersion.TLSv1
    assert shaken(tls, client())[0].version() == "TLSv1.3"


def test_cipher_suites_are_those_listed_in_the_server_s_order() -> None:
    listed = (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    )
    old = client(maximum_version=ssl.TLSVersion.TLSv1_2)
    for suites in (listed, listed[::-1]):
        tls = server_tls(replace(settings(), cipher_suites=suites))
        chosen = shaken(tls, old)[0].cipher()
        assert chosen is not None and chosen[0] == CIPHERS[suites[0]]


def test_without_the_server_s_order_the_client_s_holds() -> None:
    listed = (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    )
    old = client(maximum_version=ssl.TLSVersion.TLSv1_2)
    old.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    for ours, chosen in ((True, listed[0]), (False, listed[1])):
        changed = replace(settings(), cipher_suites=listed, prefer_server_cipher_suites=ours)
        cipher = shaken(server_tls(changed), old)[0].cipher()
        assert cipher is not None and cipher[0] == CIPHERS[chosen]


def test_every_cipher_suite_of_go_is_known_to_openssl() -> None:
    assert server_tls(replace(settings(), cipher_suites=tuple(CIPHERS)))


def test_suites_of_tls_1_3_alone_leave_no_older_version() -> None:
    tls = server_tls(replace(settings(), cipher_suites=("TLS_AES_128_GCM_SHA256",)))
    with pytest.raises(ssl.SSLError):
        shaken(tls, client(maximum_version=ssl.TLSVersion.TLSv1_2))


def test_one_curve_is_enforced() -> None:
    tls = server_tls(replace(settings(), curve_preferences=("CurveP384",)))
    only = client()
    only.set_ecdh_curve("prime256v1")
    with pytest.raises(ssl.SSLError):
        shaken(tls, only)
    only.set_ecdh_curve("secp384r1")
    shaken(tls, only)


@pytest.mark.parametrize(
    ("changes", "key", "words"),
    [
        ({"certificate": b"x"}, "cert_file", "no certificate in PEM"),
        ({"key": b"x"}, "key_file", "no private key in PEM"),
        ({"key": b"-----BEGIN PRIVATE KEY-----\nx"}, "cert_file", "damaged"),
        ({"min_version": "TLS13", "max_version": "TLS12"}, "min_version", "above max_version"),
        (
            {"max_version": "TLS12", "cipher_suites": ("TLS_AES_128_GCM_SHA256",)},
            "cipher_suites",
            "above max_version",
        ),
        ({"client_auth": "RequireAnyClientCert"}, "client_auth_type", "not supported; use Require"),
        ({"client_auth": "RequireAndVerifyClientCert"}, "client_auth_type", "needs client_ca_file"),
        ({"client_auth": "VerifyClientCertIfGiven"}, "client_auth_type", "needs client_ca_file"),
        ({"client_authorities": b"x"}, "client_ca_file", "set client_auth_type"),
        (
            {"client_authorities": b"x", "client_auth": "RequireAndVerifyClientCert"},
            "client_ca_file",
            "no certificate in PEM",
        ),
    ],
)
def test_what_cannot_be_served_is_said_at_its_key(
    changes: dict[str, object], key: str, words: str
) -> None:
    with pytest.raises(InvalidTls, match=words) as raised:
        server_tls(replace(settings(), **changes))  # type: ignore[arg-type]
    assert raised.value.key == key


def test_another_s_key_is_named() -> None:
    with pytest.raises(InvalidTls, match="is not the key of") as raised:
        server_tls(replace(settings(), key=pki().pair("other").key))
    assert raised.value.key == "key_file"


def test_an_encrypted_key_asks_nobody_for_its_passphrase() -> None:
    key = serialization.load_pem_private_key(settings().key, None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"x"),
    )
    with pytest.raises(InvalidTls, match="the key is encrypted") as raised:
        server_tls(replace(settings(), key=encrypted))
    assert raised.value.key == "key_file"


def test_the_key_is_shown_nowhere() -> None:
    assert "PRIVATE" not in repr(settings())
