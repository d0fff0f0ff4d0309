import logging
import ssl
from pathlib import Path

import pytest

from support.authority import Authority
from support.webhook_sink import WebhookSink
from tocsin_alerting.http import certificate_refused, httpx, tls_context


async def test_a_request_leaves_no_url_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with WebhookSink() as sink, httpx.AsyncClient() as client:
        await client.get(f"{sink.url}?key=hunter2")
    assert "hunter2" not in caplog.text


def test_whom_to_believe(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    strict = tls_context(str(authority.ca_file))
    assert strict.verify_mode is ssl.CERT_REQUIRED and strict.check_hostname
    assert len(strict.get_ca_certs()) == 1
    assert tls_context(None, verify=False).verify_mode is ssl.CERT_NONE
    with pytest.raises(OSError):
        tls_context(str(tmp_path / "none"))


def test_a_refused_certificate_is_found_under_other_errors() -> None:
    inner = ssl.SSLCertVerificationError("expired")
    outer = RuntimeError("connect")
    outer.__cause__ = inner
    assert certificate_refused(outer) and not certificate_refused(RuntimeError())
