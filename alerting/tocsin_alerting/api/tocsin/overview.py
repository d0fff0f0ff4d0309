"""`/api/v1/overview`: is all well? One verdict, one sentence, and what they rest on.

Green needs data: where no source is read or no rule is evaluated, nobody knows.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tocsin_alerting.api.http.envelope import success
from tocsin_alerting.api.http.get_route import get_route
from tocsin_alerting.api.prometheus.targets import ActiveTarget
from tocsin_alerting.api.tocsin.history import language_of
from tocsin_alerting.api.tocsin.incidents import incident_brief, since_ms
from tocsin_alerting.incidents.dispatcher import Dispatcher
from tocsin_alerting.incidents.heartbeats import HeartbeatState
from tocsin_alerting.incidents.incident import Condition, Incident, IncidentState
from tocsin_alerting.incidents.notification import title
from tocsin_alerting.rules.severity import Severity
from tocsin_alerting.rules.state import GroupState, RuleHealth
from tocsin_alerting.time_format import elapsed_text, rfc3339

MISSED_INTERVALS = 3  # after which what was to be read or evaluated counts as silent
_LEAST_MS = 15_000  # a short interval is no reason for alarm after a second
_WORST = 3
_BAD = (Severity.P0, Severity.P1)
VERDICTS = {
    "unknown": ("Unknown", "不明"),
    "bad": ("Not well", "有异常"),
    "attention": ("Needs attention", "请留意"),
    "ok": ("All is well", "正常"),
}


class ReloadState(Protocol):
    """How the last reload of the configuration ended: `error` why it failed, `held` what keeps
    changed files from being applied; "" for neither. `needs_restart` are the keys that wait for
    one."""

    @property
    def error(self) -> str: ...

    @property
    def held(self) -> str: ...

    @property
    def needs_restart(self) -> Sequence[str]: ...


@dataclass(slots=True)
class AgentState:
    """Where the overview looks. `receivers` are the names of all that may page a person;
    `engines` says of each watched one whether it is up (None: not yet read); `unwatched` what
    holds until somebody watches this machine from outside. `expects_rules`: false where the
    configuration has none on purpose, as it only pages what others send."""

    dispatcher: Dispatcher
    groups: Callable[[], Sequence[GroupState]]
    targets: Callable[[], Sequence[ActiveTarget]]
    engines: Callable[[], Collection[bool | None]]
    receivers: Collection[str]
    now_ms: Callable[[], int]
    external_url: str = ""
    unwatched: str = ""
    expects_rules: bool = True
    last_reload: Callable[[], ReloadState] | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that keeps the verdict from being green, in English and in Chinese."""

    verdict: str
    words: tuple[str, str]


def routes(state: AgentState) -> list[Route]:
    async def overview(request: Request) -> Response:
        language = ("en", "zh").index(language_of(request.query_params))
        return success(_overview(state, language))

    return [get_route("/api/v1/overview", overview)]


def _overview(state: AgentState, language: int) -> dict[str, Any]:
    now_ms = state.now_ms()
    still_open = sorted(_open(state), key=lambda one: (one.severity, one.muted, one.opened_at_ms))
    incidents = [one for one in still_open if not one.drill]
    drills = [one.number for one in still_open if one.drill]
    sources, rules = _sources(state.targets(), now_ms), _rules(state.groups(), now_ms)
    receivers, heartbeats = _receivers(state), _heartbeats(state, now_ms)
    found = [
        *_unknowns(state, sources, rules),
        *_incident_findings(incidents, now_ms),
        *_agent_findings(state, sources, rules, receivers),
        *_heartbeat_findings(heartbeats),
        *_reload_findings(state),
        *_drill_findings(drills),
    ]
    verdict = next((name for name in VERDICTS if any(f.verdict == name for f in found)), "ok")
    findings = sorted(found, key=lambda finding: [*VERDICTS].index(finding.verdict))
    good = _good_words(sources, rules)
    words = [finding.words[language] for finding in findings] or [good[language]]
    head = VERDICTS[verdict][language]
    return {
        "at": rfc3339(now_ms),
        "verdict": verdict,
        "sentence": f"{head}{': ' if language == 0 else '：'}{words[0]}",
        "findings": words if findings else [],
        "open": len(incidents),
        "drills": drills,
        "unanswered": sum(one.state is IncidentState.TRIGGERED for one in incidents),
        "severities": dict(sorted(Counter(one.severity.value for one in incidents).items())),
        "worst": [
            incident_brief(one, state.dispatcher, state.external_url) for one in incidents[:_WORST]
        ],
        "last_ended": _last_ended(state),
        "sources": sources,
        "rules": rules,
        "receivers": receivers,
        "heartbeats": heartbeats,
        "unwatched": state.unwatched,
        "needs_restart": list(state.last_reload().needs_restart) if state.last_reload else [],
        "engines": {"watched": len(state.engines()), "up": sum(map(bool, state.engines()))},
        "journal": {
            "up": not state.dispatcher.writer.down,
            "error": state.dispatcher.writer.last_error,
        },
    }


def _open(state: AgentState) -> list[Incident]:
    return [one for one in state.dispatcher.working.incidents.values() if one.is_open]


def _last_ended(state: AgentState) -> dict[str, Any] | None:
    """Of those that may still open again: for a while after it, that is what people ask."""
    ended = [one for one in state.dispatcher.working.incidents.values() if one.resolved_at_ms]
    last = max(ended, key=lambda one: one.resolved_at_ms or 0, default=None)
    if last is None or last.is_open:
        return None
    brief = incident_brief(last, state.dispatcher, state.external_url)
    return brief | {"at": rfc3339(last.resolved_at_ms)}


def _sources(targets: Sequence[ActiveTarget], now_ms: int) -> dict[str, Any]:
    def is_silent(target: ActiveTarget) -> bool:
        late_ms = max(_LEAST_MS, MISSED_INTERVALS * 1000 * target.interval)
        return not target.ok or target.last_ms is None or now_ms - target.last_ms > late_ms

    absent = [target for target in targets if target.absent]
    silent = [target for target in targets if not target.absent and is_silent(target)]
    return {
        "read": len(targets) - len(absent) - len(silent),
        "absent": [
            {"job": target.source.job, "instance": target.source.instance} for target in absent
        ],
        "silent": [
            {
                "job": target.source.job,
                "instance": target.source.instance,
                "last": rfc3339(target.last_ms) if target.last_ms is not None else None,
                "error": target.error,
            }
            for target in silent
        ],
    }


def _rules(groups: Sequence[GroupState], now_ms: int) -> dict[str, Any]:
    late, last_ms = [], None
    for group in groups:
        allowed_ms = max(_LEAST_MS, MISSED_INTERVALS * group.interval_ms)
        at_ms = group.evaluated_ms
        if now_ms - (group.loaded_ms if at_ms is None else at_ms) > allowed_ms:
            late.append(f"{group.group.file};{group.group.name}")
        elif at_ms is not None and (last_ms is None or at_ms > last_ms):
            last_ms = at_ms
    rules = [rule for group in groups for rule in group.rules]
    failing = sorted({rule.rule.name for rule in rules if rule.health is RuleHealth.ERR})
    return {
        "loaded": len(rules),
        "last": rfc3339(last_ms) if last_ms is not None else None,
        "late_groups": late,
        "failing": failing,
        "warnings": sorted({f"{one.rule.name}: {why}" for one in rules for why in one.warnings}),
    }


def _receivers(state: AgentState) -> list[dict[str, Any]]:
    waiting: Counter[str] = Counter()
    errors: dict[str, str] = {}
    for message in state.dispatcher.working.outbox.waiting():
        receiver = message.notification.receiver
        waiting[receiver] += 1
        if message.attempts and message.last_error:
            errors.setdefault(receiver, message.last_error)
    names = sorted({*state.receivers, *waiting})
    return [
        {"receiver": name, "waiting": waiting[name], "error": errors.get(name, "")}
        for name in names
    ]


def _heartbeats(state: AgentState, now_ms: int) -> dict[str, Any]:
    known = state.dispatcher.working.heartbeats
    states = {one.name: known.state(one, now_ms) for one in known}

    def of(wanted: HeartbeatState) -> list[str]:
        return sorted(name for name, state in states.items() if state is wanted)

    return {
        "expected": len(states),
        "missing": of(HeartbeatState.MISSING),
        "never_seen": of(HeartbeatState.NEVER_SEEN),
    }


def _drill_findings(drills: Sequence[int]) -> list[Finding]:
    if not drills:
        return []
    numbers = ", ".join(f"#{number}" for number in drills)
    return [Finding("attention", (f"a drill is on: {numbers}", f"正在演练：{numbers}"))]


def _heartbeat_findings(heartbeats: Mapping[str, Any]) -> list[Finding]:
    never = heartbeats["never_seen"]
    if not never:
        return []
    words = (
        f"heartbeats that never came, and page nobody yet: {', '.join(never)}",
        f"从未收到、尚不会告警的心跳：{'、'.join(never)}",
    )
    return [Finding("attention", words)]


def _reload_findings(state: AgentState) -> list[Finding]:
    last = state.last_reload() if state.last_reload else None
    if last is not None and last.error:
        first = last.error.partition("\n")[0]
        words = (
            f"the configuration was not reloaded, what ran before runs on: {first}",
            f"配置未能重新加载，仍按原配置运行：{first}",
        )
    elif last is not None and last.held:
        words = (
            f"changed files wait to be applied: {last.held}",
            f"已改动的文件等待确认后生效：{last.held}",
        )
    else:
        return []
    return [Finding("attention", words)]


def _unknowns(
    state: AgentState, sources: Mapping[str, Any], rules: Mapping[str, Any]
) -> list[Finding]:
    found = []
    if not sources["read"]:
        words = ("no source is read", "没有读到任何数据来源")
        found.append(Finding("unknown", words))
    if not rules["loaded"] and not state.expects_rules:
        words = (
            "rule_files is empty: only alerts that others send page anybody",
            "rule_files 为空：只有外部发来的告警才会通知",
        )
        found.append(Finding("attention", words))
    elif rules["last"] is None:
        words = ("no rule is evaluated", "没有任何规则在计算")
        found.append(Finding("unknown", words))
    return found


def _incident_findings(incidents: Sequence[Incident], now_ms: int) -> list[Finding]:
    loud = [one for one in incidents if one.severity in _BAD and not one.muted]
    if loud:
        return [Finding("bad", _incident_words(loud, len(incidents), now_ms))]
    if incidents:
        return [Finding("attention", _incident_words(incidents, len(incidents), now_ms))]
    return []


def _incident_words(first: Sequence[Incident], count: int, now_ms: int) -> tuple[str, str]:
    one = first[0]
    lasting = elapsed_text(now_ms - since_ms(one))
    name = f"#{one.number} {one.severity} {title(one)}"
    more = f"; {count - 1} more open" if count > 1 else ""
    more_zh = f"；另有 {count - 1} 个未结束" if count > 1 else ""
    unknown = one.source is Condition.UNKNOWN
    doubt, doubt_zh = ("state unknown, ", "状态未知，") if unknown else ("", "")
    state, state_zh = _owner_words(one)
    return (
        f"{name}, for {lasting}, {doubt}{state}{more}",
        f"{name}，已持续 {lasting}，{doubt_zh}{state_zh}{more_zh}",
    )


def _owner_words(incident: Incident) -> tuple[str, str]:
    if incident.muted:
        return "muted", "已抑制"
    if incident.state is IncidentState.SNOOZED:
        return "snoozed", "暂停提醒"
    if incident.state is IncidentState.ACKED:
        return f"acknowledged by {incident.owner}", f"{incident.owner} 已确认"
    return "nobody has acknowledged", "无人确认"


def _agent_findings(
    state: AgentState,
    sources: Mapping[str, Any],
    rules: Mapping[str, Any],
    receivers: Sequence[Mapping[str, Any]],
) -> list[Finding]:
    failing = [one["receiver"] for one in receivers if one["error"]]
    every = failing and set(failing) >= set(state.receivers)
    silent, late = sources["silent"], rules["late_groups"]
    first = f"{silent[0]['job']} {silent[0]['instance']}" if silent else ""
    found = [
        (
            state.dispatcher.writer.down,
            "bad",
            ("the incident journal cannot be written", "事件日志无法写入"),
        ),
        (
            failing,
            "bad" if every else "attention",
            (
                f"receivers that fail: {', '.join(failing)}",
                f"发送失败的接收端：{'、'.join(failing)}",
            ),
        ),
        (
            silent and sources["read"],
            "attention",
            (
                f"{len(silent)} silent source(s), the first: {first}",
                f"{len(silent)} 个数据来源中断，第一个：{first}",
            ),
        ),
        (
            late and rules["last"] is not None,
            "attention",
            (
                f"rule groups that are late: {', '.join(late)}",
                f"规则组未按时计算：{'、'.join(late)}",
            ),
        ),
        (
            rules["failing"],
            "attention",
            (
                f"rules that fail: {', '.join(rules['failing'])}",
                f"出错的规则：{'、'.join(rules['failing'])}",
            ),
        ),
        (
            not state.engines(),
            "attention",
            ("no inference engine is watched", "没有监控任何推理引擎"),
        ),
    ]
    return [Finding(verdict, words) for holds, verdict, words in found if holds]


def _good_words(sources: Mapping[str, Any], rules: Mapping[str, Any]) -> tuple[str, str]:
    return (
        f"no incident is open; {sources['read']} sources are read, {rules['loaded']} rules"
        " are evaluated",
        f"没有未结束的事件；读取 {sources['read']} 个数据来源，计算 {rules['loaded']} 条规则",
    )
