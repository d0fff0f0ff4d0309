"""A certificate authority of the test's own, and a server's TLS under it."""

import ssl
from pathlib import Path

import trustme


class Authority:
    def __init__(self, directory: Path) -> None:
        self._ca = trustme.CA()
        self.ca_file = directory / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.ca_file))

    def server(self, *names: str) -> ssl.SSLContext:
        """TLS for a server of these names, by default `localhost`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*(names or ("localhost",))).configure_cert(context)
        return context

    def client_files(self, directory: Path) -> dict[str, str]:
        """A certificate of a client and its key, as the keys of a configuration name them."""
        issued = self._ca.issue_cert("client@example.com")
        cert, key = directory / "client.pem", directory / "client.key"
        issued.cert_chain_pems[0].write_to_path(str(cert))
        issued.private_key_pem.write_to_path(str(key))
        return {"cert_file": str(cert), "key_file": str(key)}
