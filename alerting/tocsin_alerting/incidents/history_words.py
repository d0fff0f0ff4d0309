"""Lines of the history in words, for people: English, and Chinese beside it."""

from collections.abc import Mapping
from typing import Any

from tocsin_alerting.incidents.damping import FIRED_AGAIN, WITHIN
from tocsin_alerting.incidents.drills import TIME_IS_UP
from tocsin_alerting.time_format import elapsed_text

LANGUAGES = ("en", "zh")

# What stands in braces is of the line: `by`, `after` and `note` bring their own punctuation and are
# empty where there is none.
WORDS: Mapping[str, tuple[str, str]] = {
    "opened": ("opened: {alert}, {severity}", "触发：{alert}，{severity}"),
    "reopened": ("fires again{note}", "再次触发{note}"),
    "fires_again": ("fires again, before it was resolved", "尚未恢复即再次触发"),
    "flapping": ("flapping{note}", "反复触发{note}"),
    "flap_ended": ("no longer flapping, still firing{note}", "不再反复，告警仍在{note}"),
    "hold": (
        "its alerts are clear; resolved if they stay so for {lasting}",
        "告警已消失；若保持 {lasting} 则视为恢复",
    ),
    "new_alerts": ("notified of {count} more of its alerts", "已通知：又有 {count} 条告警触发"),
    "joined": ("{count} more of its alerts fire", "又有 {count} 条告警触发"),
    "severity_raised": ("got worse: {from} became {to}", "级别升高：{from} → {to}"),
    "severity_lowered": ("the worst alert is now {to}", "最高级别现为 {to}"),
    "step": ("step {step} ran ({reason})", "执行第 {step} 步（{reason}）"),
    "final": ("notified again: nobody acknowledged", "再次通知：始终无人确认"),
    "final_over": ("final notifications ended", "最后的通知已结束"),
    "exhausted": ("escalation exhausted: nobody acknowledged", "升级已用尽：无人确认"),
    "next_way": (
        "{contact} not reached by {failed}, notifying by {receiver}",
        "未能通过 {failed} 通知 {contact}，改用 {receiver}",
    ),
    "fallback": (
        "not delivered by {failed}, notifying by its fallback {receiver}",
        "未能通过 {failed} 送达，改用备用的 {receiver}",
    ),
    "stand_in": (
        "not delivered by {failed}, notifying by {receiver} instead",
        "未能通过 {failed} 送达，改用 {receiver} 代替",
    ),
    "delivery_late": (
        "{who} has not been reached after {waited}, retrying: {error}",
        "{waited}后仍未送达 {who}，重试中：{error}",
    ),
    "rate_wait": (
        "notifying {who} waits {lasting} for its rate limit",
        "通知 {who} 因频率限制等待 {lasting}",
    ),
    "no_one_reached": ("nobody was reached", "没有送达任何人"),
    "suppressed": ("page not sent: muted by {muted_by}", "未发送通知：被 {muted_by} 抑制"),
    "muted": ("muted by {muted_by}", "被 {muted_by} 抑制"),
    "unmuted": ("no longer muted by {muted_by}", "{muted_by} 的抑制已解除"),
    "acked": ("acknowledged{by}{after}{note}", "已确认{by}{after}{note}"),
    "ack_kept": ("stays acknowledged{by}", "确认继续有效{by}"),
    "ack_expired": ("acknowledgement expired{by}", "确认已过期{by}"),
    "unacked": ("acknowledgement withdrawn{by}{note}", "确认已撤销{by}{note}"),
    "assigned": ("assigned to {to}{by}{note}", "转交给 {to}{by}{note}"),
    "commented": ("comment{by}{note}{fields}", "备注{by}{note}{fields}"),
    "escalated": ("escalated by hand to step {step}{by}", "手动升级到第 {step} 步{by}"),
    "snoozed": ("snoozed for {lasting}{by}{note}", "暂停提醒 {lasting}{by}{note}"),
    "snooze_kept": ("stays snoozed{by}", "暂停提醒继续有效{by}"),
    "snooze_ended": ("snooze ended", "暂停提醒结束"),
    "slo_warn": ("its recovery target is near", "接近恢复目标时间"),
    "slo_breach": ("missed its recovery target", "超过恢复目标时间"),
    "source_unknown": ("state unknown: no data from its source", "状态未知：数据来源中断"),
    "unknown_noticed": ("notified that its state is unknown", "已通知：状态未知"),
    "known_again": ("its state is known again", "状态恢复可知"),
    "source_clear": ("its alerts clear", "告警已恢复"),
    "resolved": ("resolved{by}{after}", "已恢复{by}{after}"),
    "given_up": ("given up, state unknown{after}", "不再跟踪，状态未知{after}"),
    "unwatched": ("no longer watched{after}", "不再监控{after}"),
    "closed_by_hand": (
        "closed by hand{by}{after}{verdict}{note}",
        "手动关闭{by}{after}{verdict}{note}",
    ),
    "storm_grew": (
        "notified that the storm has {incidents} incidents",
        "已通知：风暴事件增至 {incidents} 个",
    ),
    "storm_again": (
        "pages again: what joined is not acknowledged ({incidents} incidents)",
        "重新通知：新加入的事件尚未确认（共 {incidents} 个）",
    ),
    "closing_kept": ("stays closed by hand{by}", "继续保持手动关闭{by}"),
    "closed": ("closed", "已关闭"),
    "superseded": ("superseded by another incident", "被另一事件取代"),
    "ignored_late": ("late alerts ignored", "忽略迟到的告警"),
    "rule_changed": (
        "a reload changed its rule {rule}: {parts}",
        "重新加载改变了其规则 {rule}：{parts}",
    ),
    "log_lines": ("{count} lines of logs kept", "已保存 {count} 行日志"),
    "receivers_lost": (
        "{lost} no longer in the configuration, notifying {instead}",
        "{lost} 已不在配置中，改为通知 {instead}",
    ),
    "delivered": ("notified {who} ({reason}{instead})", "已通知 {who}（{reason}{instead}）"),
    "delivery_retry": (
        "notifying {who} failed, retrying: {error}",
        "通知 {who} 失败，重试：{error}",
    ),
    "delivery_skipped": ("{who} not told ({reason}){note}", "未通知 {who}（{reason}）{note}"),
    "delivery_failed": ("notifying {who} failed: {error}", "通知 {who} 失败：{error}"),
    "waits_for_hours": ("step {step} waits for working hours", "第 {step} 步等待工作时间"),
    "override_added": (
        "on call in {schedule} instead of the schedule: {contact}{by}",
        "{schedule} 临时值班：{contact}{by}",
    ),
    "override_removed": (
        "override of {contact} in {schedule} removed{by}",
        "{schedule} 的临时值班（{contact}）已取消{by}",
    ),
    "silence_set": ("{what} set{lasts}{by}{comment}", "{what}已设置{lasts}{by}{comment}"),
    "silence_extended": ("{what} now ends in {left}{by}", "{what}改为 {left} 后结束{by}"),
    "silence_ends": (
        "{what} ends in {left}, and something fires under it",
        "{what}将在 {left} 后结束，仍有告警在触发",
    ),
    "silence_ended": ("{what} ended{by}{ending}", "{what}已结束{by}{ending}"),
    "silence_expired": ("{what} expired", "{what}已到期"),
    "heartbeat_added": (
        'heartbeat "{name}" is expected from now on{by}',
        "开始等待心跳“{name}”{by}",
    ),
    "token_added": ("token {name} with the role {role} made{by}", "新建令牌 {name}（{role}）{by}"),
    "token_revoked": ("token {name} revoked{by}", "令牌 {name} 已吊销{by}"),
    "heartbeat_forgotten": (
        'heartbeat "{name}" is no longer expected{by}',
        "不再等待心跳“{name}”{by}",
    ),
    "drill_started": (
        "this is a drill, for {lasting} at most{by}{note}",
        "这是演练，最长 {lasting}{by}{note}",
    ),
    "drill_ended": ("the drill ended{by}{note}", "演练结束{by}{note}"),
    "started": ("the agent started", "监控端启动"),
    "clock_jumped": ("the clock was set by {jump}", "系统时钟被调整 {jump}"),
    "journal_back": ("journal write recovered", "事件日志恢复写入"),
    "journal_replaced": ("the journal was replaced by a new one", "事件日志已被新文件取代"),
}
_ON_THE_WAY_MS = 900
_BY = (" by {}", "，操作人：{}")
_VIA = (" ({})", "（{}）")
_CHATS = {"slack": "Slack", "telegram": "Telegram"}
_BY_LINK = ("by link", "通过链接")
_BY_LINK_TO = ("by a link sent to {}", "通过发往 {} 的链接")
_AFTER = (" after {}", "，历时 {}")
_COLON = (": {}", "：{}")
_FALSE = (" as a false positive", "，误报")
_FIRING = (", still firing", "，告警仍在")
_SILENCE = ("silence of {}", "{} 的静默")
_WINDOW = ('maintenance window "{}"', "维护窗口“{}”")
_UNNAMED = ("a silence", "一条静默")
_LASTS = (" for {}", "，时长 {}")
_UNTIL_OVER = (" until it is over", "，直到恢复")
_INSTEAD = (", fallback of {}", "，{} 的备用")
_ENDINGS = {
    "resolved": (": all that it muted is resolved", "：其下告警均已恢复"),
    "replaced": (", replaced by another", "，已被另一条取代"),
}
REASONS = {  # in Chinese; English are their names
    "opened": "触发",
    "escalated": "升级",
    "repeat": "重复",
    "final": "最后通知",
    "worse": "级别升高",
    "reopened": "再次触发",
    "flapping": "反复触发",
    "flap_ended": "不再反复",
    "new_alerts": "新增告警",
    "unmuted": "抑制解除",
    "unreachable": "上一步未送达",
    "acked": "已确认",
    "ack_remind": "确认提醒",
    "ack_expired": "确认过期",
    "unacked": "确认撤销",
    "assigned": "转交",
    "snooze_end": "暂停结束",
    "slo_breach": "超过恢复目标",
    "manual": "手动",
    "unknown": "状态未知",
    "still_firing": "告警仍在",
    "storm_grew": "风暴扩大",
    "closed_by_hand": "手动关闭",
    "closed_unknown": "手动关闭，状态未知",
    "given_up": "不再跟踪",
    "unwatched": "不再监控",
    "fired_and_resolved": "触发后已恢复",
    "resolved": "已恢复",
    "digest": "汇总",
    "silence_ends": "静默将结束",
    "test": "测试",
}
MUTES = {
    "inhibited": "事件 #{}",
    "silence": "静默 {}",
    "maintenance": "维护窗口“{}”",
    "storm": "风暴 #{}",
}
_AGAIN = "{span} 内再次触发 {count} 次"
_TIME_IS_UP = "演练时间已到"


class _Shown(dict[str, Any]):
    def __missing__(self, name: str) -> str:
        """Rows of other versions may not have it."""
        return "?"


def line_words(
    event: str, actor: str, data: Mapping[str, Any], at_ms: int, language: str = "en"
) -> str:
    """What happened, without the time; an event of another version by its name."""
    chosen = LANGUAGES.index(language)
    words = WORDS.get(event)
    if words is None:
        return event.replace("_", " ") + (_BY[chosen].format(actor) if actor else "")
    return words[chosen].format_map(_Shown(_values(actor, data, at_ms, chosen)))


def _values(actor: str, data: Mapping[str, Any], at_ms: int, language: int) -> dict[str, Any]:
    def optional(words: tuple[str, str], value: object) -> str:
        return words[language].format(value) if value else ""

    after_ms, by = data.get("after_ms"), data.get("by", ())
    mutes = (by,) if isinstance(by, str) else by
    fields = data.get("fields") or {}
    receiver, contact = str(data.get("receiver", "?")), str(data.get("contact", ""))
    still = _FIRING[language] if data.get("still_firing") else ""
    return {
        **data,
        "by": optional(_BY, actor) + optional(_VIA, _via_words(data.get("via"), language)),
        "after": optional(_AFTER, elapsed_text(after_ms) if isinstance(after_ms, int) else ""),
        "note": optional(_COLON, _note(actor, data, language)),
        "fields": optional(_COLON, "; ".join(f"{name}={text}" for name, text in fields.items())),
        "verdict": _FALSE[language] if data.get("false_positive") else still,
        "muted_by": ", ".join(_mute(str(mute), language) for mute in mutes),
        "count": data.get("alerts", 1),
        "reason": _reason(str(data.get("reason", "?")), language),
        "who": f"{contact} ({receiver})" if contact else receiver,
        "instead": optional(_INSTEAD, data.get("fallback_of")),
        "lasting": _span(data.get("until_ms"), at_ms),
        "waited": _waited(data.get("waited_ms")),
        "jump": _jump(data.get("delta_ms")),
        "comment": optional(_COLON, data.get("comment")),
        **_of_silence(data, at_ms, language),
    }


def _reason(reason: str, language: int) -> str:
    """One of another version by its name."""
    english = reason.replace("_", " ")
    return REASONS.get(reason, english) if language else english


def _mute(name: str, language: int) -> str:
    kind, _, which = name.partition(":")
    return MUTES[kind].format(which) if language and kind in MUTES else name


def _note(actor: str, data: Mapping[str, Any], language: int) -> str:
    """What somebody wrote, as it is; what we did, in the language."""
    note = str(data.get("note") or data.get("why") or "")
    if actor and note == f"by {actor}":
        return ""  # the line says that already
    if not language:
        return note
    if note.startswith(FIRED_AGAIN) and WITHIN in note:
        count, _, span = note.removeprefix(FIRED_AGAIN).partition(WITHIN)
        return _AGAIN.format(count=count, span=span)
    return _TIME_IS_UP if note == TIME_IS_UP else note


def _of_silence(data: Mapping[str, Any], at_ms: int, language: int) -> dict[str, str]:
    """Which one, for how long, and why it ended."""
    matchers, window = ", ".join(map(str, data.get("matchers") or ())), data.get("window")
    named = _SILENCE[language].format(matchers) if matchers else _UNNAMED[language]
    ends_at_ms, begins_ms = data.get("ends_at_ms"), data.get("starts_at_ms", at_ms)
    lasts = _LASTS[language].format(_span(ends_at_ms, begins_ms))
    return {
        "what": _WINDOW[language].format(window) if window else named,
        "lasts": _UNTIL_OVER[language] if data.get("until_resolved") else lasts,
        "left": _span(ends_at_ms, at_ms),
        "ending": _ENDINGS.get(str(data.get("why")), ("", ""))[language],
    }


def _via_words(via: object, language: int) -> str:
    """`link`, or `link RECEIVER` where that one's readers may all have it; `slack RECEIVER`."""
    kind, _, receiver = str(via or "").partition(" ")
    if kind != "link":
        return _CHATS.get(kind, "")
    return _BY_LINK_TO[language].format(receiver) if receiver else _BY_LINK[language]


def _span(until_ms: object, at_ms: int) -> str:
    """Of `2h` that somebody asked for, some ms have passed before it is recorded."""
    return elapsed_text(until_ms - at_ms + _ON_THE_WAY_MS) if isinstance(until_ms, int) else "?"


def _waited(waited_ms: object) -> str:
    return elapsed_text(waited_ms) if isinstance(waited_ms, int) else "?"


def _jump(delta_ms: object) -> str:
    if not isinstance(delta_ms, int):
        return "?"
    return f"{'-' if delta_ms < 0 else '+'}{elapsed_text(abs(delta_ms))}"
