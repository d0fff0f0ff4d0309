"""Files of modules: what blackbox_exporter takes and refuses, and what is said of it."""

from pathlib import Path

import pytest

from support.blackbox import accepts
from tocsin_alerting.config.load import load
from tocsin_alerting.config.probe_modules import load_modules
from tocsin_alerting.yaml_document import InvalidDocument
from tocsin_exporter.probes.modules import DnsProbe, HttpProbe, TcpProbe

GOOD = [
    "{prober: http}",
    "{prober: http, timeout: 1m30s, http: {valid_status_codes: [200, 404], method: POST}}",
    '{prober: http, http: {headers: {Accept: "*/*", X-Number: 5}, body: "{}"}}',
    "{prober: http, http: {basic_auth: {username: a, password: b}}}",
    "{prober: http, http: {authorization: {type: Token, credentials: b}}}",
    "{prober: http, http: {bearer_token: abc, follow_redirects: false, enable_http2: false}}",
    "{prober: http, http: {tls_config: {insecure_skip_verify: true, min_version: TLS13}}}",
    "{prober: http, http: {compression: gzip, headers: {Accept-Encoding: 'br;q=0.5, gzip'}}}",
    "{prober: http, http: {compression: gzip, headers: {Accept-Encoding: 'gzip;q=0, *'}}}",
    "{prober: http, http: {body_size_limit: 10MB}}",
    "{prober: http, http: {fail_if_header_matches: [{header: A, regexp: b, allow_missing: true}]}}",
    "{prober: tcp, tcp: {query_response: [{expect: 'a(?P<b>c)', send: '${b}'}, {starttls: true}]}}",
    "{prober: dns, dns: {query_name: a.test, query_type: MX, valid_rcodes: [NXDOMAIN]}}",
    "{prober: dns, dns: {query_name: a, transport_protocol: tcp, dns_over_tls: true}}",
    "{prober: icmp, icmp: {ttl: 5, payload_size: 64, dont_fragment: true}}",
    "{prober: grpc, grpc: {service: a, tls: true}}",
    "{prober: icmp, http: {method: GET}}",  # a section of another prober is there for nothing
]
BAD = [
    "{prober: http, http: {valid_status_code: [200]}}",
    "{prober: http, timeout: soon}",
    "{prober: http, timeout: 5}x",
    "{prober: http, http: {fail_if_body_matches_regexp: ['(a']}}",
    "{prober: http, http: {fail_if_body_matches_regexp: ['(?=a)']}}",
    "{prober: http, http: {fail_if_header_matches: [{header: A}]}}",
    "{prober: http, http: {fail_if_header_matches: [{regexp: a}]}}",
    "{prober: http, http: {basic_auth: {username: a, password: b}, bearer_token: c}}",
    "{prober: http, http: {authorization: {type: Basic, credentials: c}}}",
    "{prober: http, http: {compression: gzip, headers: {Accept-Encoding: br}}}",
    "{prober: http, http: {tls_config: {min_version: TLS9}}}",
    "{prober: http, http: {body_size_limit: much}}",
    "{prober: tcp, tcp: {query_response: [{expect: '*'}]}}",
    "{prober: tcp, tcp: {query_response: [{exspect: 'a'}]}}",
    "{prober: dns, dns: {query_type: A}}",
    "{prober: dns, dns: {query_name: a, query_type: NOPE}}",
    "{prober: dns, dns: {query_name: a, query_class: NOPE}}",
    "{prober: icmp, icmp: {ttl: 256}}",
    "{prober: icmp, icmp: {ttl: -1}}",
]


def _file(folder: Path, module: str) -> Path:
    file = folder / "blackbox.yml"
    file.write_text(f"modules:\n  m: {module}\n")
    return file


@pytest.mark.parametrize("module", GOOD)
def test_what_blackbox_exporter_takes_is_taken(tmp_path: Path, module: str) -> None:
    file = _file(tmp_path, module)
    assert accepts(file)
    assert set(load_modules(file)) == {"m"}


@pytest.mark.parametrize("module", BAD)
def test_what_blackbox_exporter_refuses_is_refused(tmp_path: Path, module: str) -> None:
    file = _file(tmp_path, module)
    assert not accepts(file)
    with pytest.raises(InvalidDocument) as error:
        load_modules(file)
    assert str(error.value).startswith(f"{file}:2:") or str(error.value).startswith(f"{file}:3:")


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (
            "{prober: htp}",
            ":2:15: modules.m.prober: must be 'http', 'tcp', 'dns', 'icmp' or",
        ),
        ("{prober: http, http: {methd: x}}", '"modules.m.http.methd"; did you mean "method"?'),
        ("{prober: http, http: {proxy_url: x}}", "proxy_url is not provided: a probe connects to"),
        ("{prober: http, http: {oauth2: {}}}", "oauth2 is not provided: take a token from a file"),
        ("{prober: http, timeout: x}", "write it like 5s, 1m30s or 500ms"),
        ("{prober: dns}", "a module of dns needs dns: {query_name: ...}"),
        (
            "{prober: dns, dns: {query_name: a, dns_over_tls: true}}",
            "needs transport_protocol: tcp",
        ),
    ],
)
def test_it_is_said_what_is_wrong(tmp_path: Path, module: str, words: str) -> None:
    with pytest.raises(InvalidDocument) as error:
        load_modules(_file(tmp_path, module))
    assert words in str(error.value)


def test_paths_begin_where_the_file_lies_and_secrets_are_not_shown(tmp_path: Path) -> None:
    text = "{prober: http, http: {body_file: b, basic_auth: {username: u, password: hunter2},"
    text += " headers: {X-Key: hunter2}, tls_config: {ca_file: ca.pem}}}"
    module = load_modules(_file(tmp_path, text))["m"]
    assert isinstance(module.probe, HttpProbe)
    assert module.probe.body_file == tmp_path / "b"
    assert module.probe.tls.ca_file == tmp_path / "ca.pem"
    assert "hunter2" not in module.shown + repr(module) and "username: u" in module.shown


def test_defaults_are_blackbox_exporters(tmp_path: Path) -> None:
    dns = load_modules(_file(tmp_path, "{prober: dns, dns: {query_name: a}}"))["m"].probe
    assert dns == DnsProbe("a")
    assert isinstance(load_modules(None)["http_2xx"].probe, HttpProbe)
    tls = load_modules(None)["tls_connect"].probe
    assert isinstance(tls, TcpProbe) and tls.use_tls


@pytest.mark.parametrize(
    ("probes", "words"),
    [
        ("{targets: [{module: htp_2xx, targets: [a]}]}",
         ':1:29: no module is called "htp_2xx" in the modules that come with us; name a file in'
         ' config_file; did you mean "http_2xx"?'),
        ("{targets: [{targets: [a, a]}]}", '"a" is probed twice under the job blackbox'),
        ("{targets: [{targets: []}]}", "must not be empty"),
        ("{targets: [{target: [a]}]}", 'did you mean "targets"?'),
        ('{targets: [{targets: ["http://u:p@a/"]}]}', "write user and password into a module"),
        ("{config_file: none.yml}", "none.yml"),
    ],
)  # fmt: skip
def test_the_section_is_checked(tmp_path: Path, probes: str, words: str) -> None:
    file = tmp_path / "tocsin.yml"
    file.write_text(f"probes: {probes}\n")
    with pytest.raises(InvalidDocument) as error:
        load(file)
    assert words in str(error.value)


def test_what_is_wrong_in_the_file_of_modules_is_said_with_its_place(tmp_path: Path) -> None:
    _file(tmp_path, "{prober: htp}")
    file = tmp_path / "tocsin.yml"
    file.write_text("probes: {config_file: blackbox.yml}\n")
    with pytest.raises(InvalidDocument) as error:
        load(file)
    assert f"{tmp_path / 'blackbox.yml'}:2:15: modules.m.prober: must be" in str(error.value)
