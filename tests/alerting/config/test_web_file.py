"""exporter-toolkit's file: what is in it, and what is wrong, at its place; promtool agrees."""

import ssl
import subprocess
from pathlib import Path

import pytest

from support.promtool import needs_promtool
from support.web_pki import Pki
from tocsin_alerting.config.config import Config
from tocsin_alerting.config.load import external_url, load
from tocsin_alerting.config.web_file import load_web_config, serves_tls
from tocsin_alerting.yaml_document import InvalidDocument

HASH = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi"
TLS = "tls_server_config: {cert_file: cert.pem, key_file: key.pem%s}\n"
GOOD = {
    "": "",
    "empty parts": "tls_server_config:\nbasic_auth_users:\nhttp_server_config:\n",
    "empty tls": "tls_server_config: {}\n",
    "users": f"basic_auth_users: {{li: {HASH}, 'm@x': $2a{HASH[3:]}}}\n",
    "tls": TLS % "",
    "versions": TLS % ", min_version: TLS10, max_version: TLS11",
    "no order": TLS % ", prefer_server_cipher_suites: false",
    "ciphers": TLS % ", cipher_suites: [TLS_AES_128_GCM_SHA256,"
    " TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_RSA_WITH_AES_256_CBC_SHA]",
    "curves": TLS % ", curve_preferences: [CurveP256, CurveP384, CurveP521, X25519]",
    "http2": TLS % "" + "http_server_config: {http2: true}\n",
    "asked": TLS % ", client_auth_type: RequestClientCert",
    "verified": TLS % ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem",
    "if given": TLS % ", client_auth_type: VerifyClientCertIfGiven, client_ca_file: ca.pem",
    "not asked": TLS % ", client_auth_type: NoClientCert",
    "headers": "http_server_config: {headers: {X-Frame-Options: sameorigin,"
    " Content-Security-Policy: default-src 'self', X-Content-Type-Options: nosniff,"
    " X-XSS-Protection: '1', Strict-Transport-Security: max-age=1}}\n",
}
BAD = {  # with where and what we say
    "basic_auth_user: {}\n": (
        1,
        1,
        'unknown key "basic_auth_user"; did you mean',
    ),
    TLS % ", cert_fil: x": (
        1,
        61,
        '"tls_server_config.cert_fil"; did you mean "cert_f',
    ),
    "basic_auth_users: {li: one}\n": (
        1,
        24,
        "bcrypt; make one with htpasswd",
    ),
    "tls_server_config: {cert_file: cert.pem}\n": (1, 20, "key or key_file is missing"),
    "tls_server_config: {key_file: key.pem}\n": (1, 20, "cert or cert_file is missing"),
    "tls_server_config: {client_ca_file: ca.pem}\n": (1, 20, "cert or cert_file is missing"),
    "tls_server_config: {cert_file: no.pem, key_file: key.pem}\n": (1, 32, "cannot read "),
    "tls_server_config: {cert_file: cert.pem, key_file: no.pem}\n": (1, 52, "cannot read "),
    "tls_server_config: {cert_file: key.pem, key_file: key.pem}\n": (
        1,
        32,
        "no certificate in",
    ),
    "tls_server_config: {cert_file: ca.pem, key_file: key.pem}\n": (1, 50, "is not the key of"),
    TLS % ", client_auth_type: Require": (1, 79, 'unknown client_auth_type "Require"'),
    TLS % ", client_ca_file: ca.pem": (1, 77, "set client_auth_type: RequireAndVerify"),
    TLS % ", client_ca_file: no.pem, client_auth_type: RequireAndVerifyClientCert": (
        1,
        77,
        "cannot",
    ),
    TLS % ", min_version: TLS14": (1, 74, 'unknown TLS version "TLS14"; did you mean "TLS1'),
    TLS % ", cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA25]": (1, 77, "did you mean"),
    TLS % ", curve_preferences: [P256]": (1, 81, 'unknown curve "P256"; did you mean "CurveP256"?'),
    "http_server_config: {headers: {X-Frame-Option: deny}}\n": (1, 31, 'did you mean "X-Frame-O'),
    "http_server_config: {headers: {X-Frame-Options: x}}\n": (1, 31, "must be deny or sameorigin"),
    "http_server_config: {headers: {X-Content-Type-Options: x}}\n": (1, 31, "must be nosniff"),
}
OURS = {  # what the toolkit takes, and we do not
    TLS % ", client_auth_type: RequireAnyClientCert": "lets in everybody who makes himself",
    TLS % ", client_auth_type: RequireAndVerifyClientCert": "needs client_ca_file",
    TLS % ", min_version: TLS13, max_version: TLS12": "no client could connect",
    f"basic_auth_users: {{li: {HASH[:-1]}}}\n": "not a password's hash",
    f"basic_auth_users: {{li: $2y$30{HASH[6:]}}}\n": "at most 18",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("web")
    pki = Pki()
    pair = pki.pair("localhost")
    (directory / "cert.pem").write_bytes(pair.certificate)
    (directory / "key.pem").write_bytes(pair.key)
    (directory / "ca.pem").write_bytes(pki.authority)
    return directory


def written(folder: Path, text: str) -> Path:
    file = folder / "web.yml"
    file.write_text(text)
    return file


def promtool_takes(file: Path) -> bool:
    command = ["promtool", "check", "web-config", str(file)]
    done = subprocess.run(command, capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_what_is_right(folder: Path, text: str) -> None:
    file = written(folder, text)
    config = load_web_config(file)
    assert (config.tls is not None) == ("cert_file" in text)
    assert config.files[0] == file


@needs_promtool
@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_what_is_right_is_right_for_promtool_too(folder: Path, text: str) -> None:
    assert promtool_takes(written(folder, text))


@pytest.mark.parametrize("text", BAD)
def test_what_is_wrong_is_said_at_its_place(folder: Path, text: str) -> None:
    file, (line, column, words) = written(folder, text), BAD[text]
    with pytest.raises(InvalidDocument) as raised:
        load_web_config(file)
    said = str(raised.value)
    assert said.startswith(f"{file}:{line}:{column}: ") and words in said
    assert "\n" not in said


@needs_promtool
@pytest.mark.parametrize("text", BAD)
def test_what_is_wrong_is_wrong_for_promtool_too(folder: Path, text: str) -> None:
    assert not promtool_takes(written(folder, text))


@pytest.mark.parametrize("text", OURS)
def test_what_could_not_serve_anybody_well_is_refused(folder: Path, text: str) -> None:
    with pytest.raises(InvalidDocument, match=OURS[text]):
        load_web_config(written(folder, text))


def test_texts_may_stand_in_the_file_and_sans_and_rates(folder: Path) -> None:
    def indented(name: str) -> str:
        return (folder / name).read_text().replace("\n", "\n    ").rstrip()

    file = written(
        folder,
        f"tls_server_config:\n  cert: |\n    {indented('cert.pem')}\n  key: |\n"
        f"    {indented('key.pem')}\n  client_ca: |\n    {indented('ca.pem')}\n"
        "  client_auth_type: RequireAndVerifyClientCert\n  client_allowed_sans: [prom]\n"
        "rate_limit: {interval: 500ms, burst: 3}\n",
    )
    config = load_web_config(file)
    assert config.tls is not None and config.tls.requires
    assert config.tls.allowed_sans == frozenset({"prom"})
    assert config.rate == (0.5, 3) and config.files == (file,)
    assert "PRIVATE" not in repr(config)


def test_a_rate_of_nothing_is_none_and_one_without_a_burst_is_an_error(folder: Path) -> None:
    assert load_web_config(written(folder, "rate_limit: {interval: 0, burst: 3}\n")).rate is None
    with pytest.raises(InvalidDocument, match="no request is ever answered"):
        load_web_config(written(folder, "rate_limit: {interval: 1s}\n"))


def test_a_header_that_is_blank_is_unset(folder: Path) -> None:
    text = "http_server_config: {headers: {X-XSS-Protection: '', X-Frame-Options: deny}}\n"
    config = load_web_config(written(folder, text))
    assert config.headers == ((b"x-frame-options", b"deny"),)


def test_the_files_are_all_followed_and_lie_beside_the_file(folder: Path) -> None:
    config = load_web_config(written(folder, GOOD["verified"]))
    assert config.files == tuple(folder / n for n in ("web.yml", "cert.pem", "key.pem", "ca.pem"))
    assert config.guarded


def test_what_does_not_hold_as_it_is_written_is_noted(folder: Path) -> None:
    def notes(name: str) -> str:
        return " ".join(load_web_config(written(folder, GOOD[name])).notes)

    assert "only a list of one" in notes("curves")
    assert "keeps nobody out" in notes("asked")
    assert "HTTP/1.1 is served" in notes("http2")
    assert notes("verified") == ""


def test_the_configuration_names_it_and_says_what_is_wrong_in_it(folder: Path) -> None:
    (folder / "tocsin.yml").write_text("web: {config_file: web.yml}\n")
    written(folder, TLS % "")
    config = load(folder / "tocsin.yml", local_mail=lambda *_: "")
    assert config.web.config_file == folder / "web.yml"
    assert serves_tls(config) and external_url(config).startswith("https://")
    assert not serves_tls(Config()) and external_url(Config()).startswith("http://")
    file = written(folder, "user: {}\n")
    with pytest.raises(InvalidDocument, match=f"{file}:1:1: unknown key"):
        load(folder / "tocsin.yml", local_mail=lambda *_: "")
    assert not serves_tls(config)


def test_a_file_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(InvalidDocument, match="cannot read this file: No such file"):
        load_web_config(folder / "none.yml")


def test_the_certificate_is_the_one_that_is_served(folder: Path) -> None:
    tls = load_web_config(written(folder, TLS % "")).tls
    assert tls is not None and isinstance(tls.context, ssl.SSLContext)
