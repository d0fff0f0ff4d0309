"""Certificates for tests of TLS: a server's, a client's and a stranger's."""

from dataclasses import dataclass

import trustme

from tocsin_exporter.tls import ServerTls, TlsSettings, server_tls


@dataclass(frozen=True)
class Pair:
    certificate: bytes
    key: bytes


class Pki:
    """An authority, and what it has signed."""

    def __init__(self) -> None:
        self.ca = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self.authority = self.ca.cert_pem.bytes()

    def pair(self, *names: str, common_name: str | None = None) -> Pair:
        issued = self.ca.issue_cert(*names, common_name=common_name, key_type=trustme.KeyType.ECDSA)
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        return Pair(chain, issued.private_key_pem.bytes())

    def server(self, **settings: object) -> ServerTls:
        pair = self.pair("localhost", "127.0.0.1")
        return server_tls(TlsSettings(pair.certificate, pair.key, **settings))  # type: ignore[arg-type]
