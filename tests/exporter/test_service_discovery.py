"""Targets out of files and DNS; what cannot be read leaves what was read before."""

import asyncio
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import dns.asyncresolver
import dns.message
import dns.rcode
import dns.rrset
import pytest

from tocsin_exporter.scrape_job import DnsDiscovery, FileDiscovery, ScrapeJob, TargetGroup
from tocsin_exporter.service_discovery import (
    DnsTargets,
    FileTargets,
    JobDiscovery,
    dns_records,
    read_groups,
)

JSON = '[{"targets": ["a:1", "b:2"], "labels": {"team": "x"}}]'
YAML = "- targets: [c:3]\n- targets: []\n  labels: {y: z}\n"


def addresses(groups: Sequence[TargetGroup]) -> list[str]:
    return [target["__address__"] for group in groups for target in group.targets]


def test_a_file_is_json_or_yaml(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(JSON)
    (tmp_path / "b.yml").write_text(YAML)
    one, *others = read_groups(str(tmp_path / "a.json")), *read_groups(str(tmp_path / "b.yml"))
    assert addresses(one) == ["a:1", "b:2"] and addresses(others) == ["c:3"]
    assert one[0].labels == {"team": "x", "__meta_filepath": str(tmp_path / "a.json")}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[", "a.yml"),
        ("targets: [a:1]", "must be a list"),
        ("[a]", "group 1: must have targets"),
        ("[{target: [a]}]", "unknown key 'target'; the keys are targets and labels"),
        ("[{targets: a}]", "targets must be a list"),
        ("[{targets: [[1]]}]", "targets must be a list"),
        ("[{targets: [a], labels: {x: []}}]", "names with texts"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "a.yml").write_text(text)
    with pytest.raises(ValueError, match=why):
        read_groups(str(tmp_path / "a.yml"))


def test_half_of_a_file_leaves_its_targets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "a.json"
    files = FileTargets(FileDiscovery((str(tmp_path / "*.json"),)))
    file.write_text(JSON)
    files.look()
    file.write_text(JSON[:20])
    files.look()
    files.look()
    assert addresses(files.groups) == ["a:1", "b:2"]
    assert caplog.text.count("those read before are kept") == 1
    file.write_text(JSON.replace("a:1", "z:26"))
    files.look()
    assert addresses(files.groups) == ["z:26", "b:2"]
    file.unlink()
    files.look()
    assert files.groups == []


async def test_names_are_targets_and_stay_while_nobody_answers() -> None:
    answers: dict[str, list[tuple[str, int]] | OSError] = {"s": [("h.", 9), ("g.", 8)]}

    async def ask(name: str, kind: str) -> list[tuple[str, int]]:
        answer = answers[name]
        if isinstance(answer, OSError):
            raise answer
        return answer

    names = DnsTargets(DnsDiscovery(("s",)), ask)
    await names.look()
    assert addresses(names.groups) == ["g:8", "h:9"]
    assert names.groups[0].targets[1] == {
        "__address__": "h:9",
        "__meta_dns_name": "s",
        "__meta_dns_srv_record_target": "h",
        "__meta_dns_srv_record_port": "9",
    }
    answers["s"] = OSError("no name server answers")
    await names.look()
    assert addresses(names.groups) == ["g:8", "h:9"]
    answers["s"] = []
    await names.look()
    assert addresses(names.groups) == []
    plain = DnsTargets(DnsDiscovery(("a",), "AAAA", 4911), ask)
    answers["a"] = [("::1", 0)]
    await plain.look()
    assert addresses(plain.groups) == ["[::1]:4911"]


async def test_what_was_found_last_stays_until_somebody_answers(tmp_path: Path) -> None:
    names, file = DnsDiscovery(("s", "t"), "A", 9), tmp_path / "a.json"
    job = ScrapeJob("j", files=(FileDiscovery((str(tmp_path / "*.json"),)),), dns=(names,))
    answers: dict[str, list[tuple[str, int]]] = {"s": [("10.0.0.1", 0)], "t": [("10.0.0.2", 0)]}
    taken: list[Sequence[TargetGroup]] = []
    asked: list[str] = []

    async def ask(name: str, kind: str) -> list[tuple[str, int]]:
        asked.append(name)
        try:
            return answers[name]
        except KeyError:
            raise OSError("no name server answers") from None

    async def looked(
        job: ScrapeJob, after: list[str], known: Sequence[TargetGroup] = ()
    ) -> list[str]:
        """What is watched at first; `after` is what must be once each name was asked for."""
        discovery = JobDiscovery(job, taken.append, ask, known)
        discovery.offer()
        await discovery.look()
        begun = addresses(taken[-1])
        asked.clear()
        following = asyncio.create_task(discovery.run())
        async with asyncio.timeout(20):
            while len(asked) < len(job.dns[0].names) or addresses(taken[-1]) != after:
                await asyncio.sleep(0.001)
        following.cancel()
        return begun

    all_of_it = ["a:1", "b:2", "10.0.0.1:9", "10.0.0.2:9"]
    file.write_text(JSON)
    assert await looked(job, all_of_it) == ["a:1", "b:2"]
    known = taken[-1]
    answers.clear()
    file.write_text("[")
    assert await looked(job, all_of_it, known) == all_of_it
    answers["s"] = [("10.0.0.3", 0)]
    file.unlink()
    fewer = replace(job, dns=(replace(names, names=("s",)),))
    assert await looked(fewer, ["10.0.0.3:9"], known) == ["10.0.0.1:9"]
    answers.clear()
    assert await looked(replace(job, dns=(replace(names, port=8),)), [], known) == []


async def test_groups_are_handed_on_when_they_change(tmp_path: Path) -> None:
    taken: list[list[str]] = []
    static = TargetGroup("0", ({"__address__": "s:1"},))
    (tmp_path / "a.json").write_text(JSON)
    files = (FileDiscovery((str(tmp_path / "a.json"),)),)
    job = ScrapeJob("j", static=(static,), files=files)
    discovery = JobDiscovery(job, lambda groups: taken.append(addresses(groups)))
    discovery.offer()
    await discovery.look()
    await discovery.look()
    assert taken == [["s:1"], ["s:1", "a:1", "b:2"]]


RECORDS = {
    ("_m._tcp.test.", "SRV"): ["1 1 8000 one.test.", "1 1 8001 two.test."],
    ("one.test.", "A"): ["10.0.0.1", "10.0.0.2"],
    ("one.test.", "AAAA"): ["fd00::1"],
    ("test.", "MX"): ["10 mail.test."],
    ("test.", "NS"): ["ns.test."],
}


@contextmanager
def name_server() -> Iterator[dns.asyncresolver.Resolver]:
    """A resolver that asks one of our own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as served:
        served.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=_serve, args=[served], daemon=True)
        thread.start()
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = ["127.0.0.1"], served.getsockname()[1]
        resolver.lifetime = 5
        try:
            yield resolver
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", served.getsockname())
            thread.join(5)


def _serve(served: socket.socket) -> None:
    while True:
        packet, client = served.recvfrom(4096)
        if not packet:
            return
        asked = dns.message.from_wire(packet)
        question, reply = asked.question[0], dns.message.make_response(asked)
        kind = question.to_text().split()[-1]
        records = RECORDS.get((str(question.name), kind))
        if records:
            reply.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *records))
        elif str(question.name) not in {name for name, _ in RECORDS}:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        served.sendto(reply.to_wire(), client)


async def test_records_of_a_real_name_server() -> None:
    with name_server() as resolver:
        found = await dns_records("_m._tcp.test.", "SRV", resolver)
        assert sorted(found) == [("one.test.", 8000), ("two.test.", 8001)]
        both = await asyncio.gather(
            *(dns_records("one.test.", kind, resolver) for kind in ("A", "AAAA"))
        )
        assert [sorted(one) for one in both] == [[("10.0.0.1", 0), ("10.0.0.2", 0)],
                                                  [("fd00::1", 0)]]  # fmt: skip
        assert await dns_records("test.", "MX", resolver) == [("mail.test.", 0)]
        assert await dns_records("test.", "NS", resolver) == [("ns.test.", 0)]
        assert await dns_records("nowhere.test.", "A", resolver) == []
        assert await dns_records("one.test.", "SRV", resolver) == []
    with pytest.raises(OSError, match="one.test. A: "):
        resolver.lifetime = 0.2
        await dns_records("one.test.", "A", resolver)


def test_a_directory_that_cannot_be_entered_ends_no_watch_and_one_that_is_gone_does(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "found"
    folder.mkdir()
    (folder / "a.json").write_text('[{"targets": ["a:1"]}]')
    files = FileTargets(FileDiscovery((f"{folder}/*.json",)))
    files.look()
    known = files.groups
    folder.rename(tmp_path / "aside")
    folder.symlink_to(folder)  # to enter it fails, for root as well
    files.look()
    assert files.groups == known != []
    folder.unlink()
    files.look()
    assert files.groups == []
