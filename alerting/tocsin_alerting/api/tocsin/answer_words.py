"""What the page behind a link says, in English, and in Chinese beside it."""

from collections.abc import Mapping

from tocsin_alerting.incidents.history_words import LANGUAGES

WORDS: Mapping[str, tuple[str, str]] = {
    "colon": (": ", "："),
    "comma": (", ", "、"),
    "P0": ("P0, critical", "P0，紧急"),
    "P1": ("P1, high", "P1，严重"),
    "P2": ("P2, medium", "P2，一般"),
    "P3": ("P3, low", "P3，较低"),
    "P4": ("P4, information", "P4，提示"),
    "drill": ("DRILL", "演练"),
    "drill_why": ("This is a drill, nothing is wrong.", "这是演练，没有发生故障。"),
    "nobody": ("Nobody has it", "无人处理"),
    "acked": ("Acknowledged by {}", "{} 已确认"),
    "acked_you": ("You have it", "由您处理"),
    "assigned": ("Assigned to {}, not acknowledged", "已转交 {}，尚未确认"),
    "snoozed": ("Snoozed until {}", "暂停提醒至 {}"),
    "muted": ("Muted: nobody is paged", "已抑制：不发送通知"),
    "unknown": ("State unknown: no data", "状态未知：没有数据"),
    "clear": ("Clear now, resolved if it stays so", "暂时恢复，若持续正常则结束"),
    "resolved": ("Resolved", "已恢复"),
    "given_up": ("Given up, state unknown", "不再跟踪，状态未知"),
    "unwatched": ("No longer watched", "不再监控"),
    "closed_firing": ("Closed by hand, still firing", "已手动关闭，告警仍在"),
    "closed_unknown": ("Closed by hand, state unknown", "已手动关闭，状态未知"),
    "over": ("Over", "已结束"),
    "over_why": (
        "This incident is over, and this link with it. Nothing can be done here any more.",
        "该事件已结束，此链接随之失效，无法再进行操作。",
    ),
    "since": ("Since", "开始于"),
    "lasted": ("Duration", "历时"),
    "closed": ("Closed", "关闭于"),
    "ended": ("Ended", "结束于"),
    "for": ("for {}", "已持续 {}"),
    "owner": ("Who has it", "处理人"),
    "next": ("Next", "下一步"),
    "machine": ("Labels", "标签"),
    "by_link": ("This link belongs to {}.", "此链接属于 {}。"),
    "as": ("You answer as {}.", "您以 {} 的身份操作。"),
    "other_person": ("Somebody else?", "换人？"),
    "do_not_forward": (
        "Who has it can answer in that name. It ends with the incident.",
        "持有此链接的人可以用该名义操作。事件结束后链接失效。",
    ),
    "who": ("Who are you?", "您是谁？"),
    "who_why": (
        "Many read this link. Your name stands in the history.",
        "此链接有多人可见，您的名字会写入历史记录。",
    ),
    "name": ("Another name", "其他姓名"),
    "go_on": ("Continue", "继续"),
    "ack": ("Acknowledge", "确认"),
    "take": ("Take over from {}", "从 {} 接手"),
    "ack_why": ("Stops the escalation; you have it.", "停止升级，由您处理。"),
    "snooze": ("Snooze", "暂停提醒"),
    "snooze_for": ("Snooze {}", "暂停 {}"),
    "unack": ("Give it back", "撤销确认"),
    "unack_why": ("The escalation starts again.", "升级流程将重新开始。"),
    "escalate": ("Escalate now", "立即升级"),
    "escalate_why": ("Pages the next step at once: {}", "立即通知下一步：{}"),
    "assign": ("Hand over", "转交"),
    "assign_to": ("Hand over to", "转交给"),
    "comment": ("Comment", "备注"),
    "send": ("Save comment", "保存备注"),
    "note": ("Note", "备注"),
    "resolve": ("Resolve…", "关闭…"),
    "resolve_why": (
        "It still fires. Closing it tells everybody who was paged; if it still fires after {},"
        " it pages again.",
        "告警仍在。关闭后会告知所有收到通知的人；若 {} 后告警仍在，将再次通知。",
    ),
    "resolve_unknown": (
        "Its state is unknown. Closing it tells everybody who was paged.",
        "当前状态未知。关闭后会告知所有收到通知的人。",
    ),
    "false_positive": ("It was a false alarm", "这是误报"),
    "confirm": ("Yes, close it", "确认关闭"),
    "more": ("More", "更多"),
    "hour": ("The last hour", "最近一小时"),
    "fires_when": ("fires when", "触发条件"),
    "value": ("value", "当前值"),
    "no_chart": ("No values to draw.", "没有可绘制的数据。"),
    "no_rule": ("Its rule is not one of this agent's.", "触发它的规则不属于本监控端。"),
    "runbook": ("Runbook", "处理手册"),
    "dashboard": ("Dashboard", "仪表盘"),
    "history": ("What happened", "历史记录"),
    "reload": ("Reload", "刷新"),
    "back": ("Back to the incident", "返回事件"),
    "times_in": ("Times in {}", "时区 {}"),
    "more_alerts": ("{} alerts, the worst is shown", "共 {} 条告警，显示最严重的一条"),
    "unrecorded": (
        "Done and in force, but not on disk yet. If the agent is killed now, it is lost.",
        "已生效，但尚未写入磁盘；若监控端此时被强制终止，此操作会丢失。",
    ),
    # what follows, by its timer
    "next_step": ("{at}: {who} notified", "{at}：通知 {who}"),
    "next_final": ("{at}: {who} notified again", "{at}：再次通知 {who}"),
    "next_group_wait": ("{at}: the first notification goes out", "{at}：发出首次通知"),
    "next_hours": (
        "{at}: working hours begin, people are notified",
        "{at}：工作时间开始，发出通知",
    ),
    "next_ack_remind": ("{at}: the owner is reminded", "{at}：提醒处理人"),
    "next_ack_timeout": (
        "{at}: the acknowledgement expires, the escalation goes on",
        "{at}：确认过期，继续升级",
    ),
    "next_snooze_end": ("{at}: the snooze ends, people are notified", "{at}：暂停结束，发出通知"),
    "next_re_raise": ("{at}: notifies again if it still fires", "{at}：若告警仍在，再次通知"),
    "next_slo_breach": ("{at}: its recovery target is missed", "{at}：超过恢复目标时间"),
    "next_source_unknown": ("{at}: notifies that its state is unknown", "{at}：告知状态未知"),
    "next_unknown_max": ("{at}: given up, state unknown", "{at}：不再跟踪，状态未知"),
    "next_hold_end": ("{at}: resolved, if it stays clear", "{at}：若持续正常，则视为恢复"),
    "next_nothing": ("Nothing follows by itself.", "没有后续自动操作。"),
    "next_muted": ("Nobody is paged while it is muted.", "抑制期间不发送通知。"),
    "again_same": ("the same people", "同一批人"),
    # what was done, or was not
    "done_ack": ("Acknowledged. You have it.", "已确认，由您处理。"),
    "done_unack": ("Given back.", "已撤销确认。"),
    "done_snooze": ("Snoozed.", "已暂停提醒。"),
    "done_escalate": ("Escalated.", "已升级。"),
    "done_resolve": ("Closed.", "已关闭。"),
    "done_assign": ("Handed over.", "已转交。"),
    "done_comment": ("Comment saved.", "备注已保存。"),
    "failed_state": (
        "Not done: it has changed meanwhile. See below.",
        "未执行：事件状态已改变，请看下方。",
    ),
    "failed_owned": (
        "Not done: {} has it meanwhile. Take it over if you mean to.",
        "未执行：{} 已在处理。如需接手，请点击接手。",
    ),
    "owned_by": ("{} has it already.", "{} 已在处理。"),
    "failed_changed": (
        "Not done: its state has changed meanwhile.",
        "未执行：事件状态已改变。",
    ),
    "failed_old": (
        "Not done: this page lay open too long. Look again, then press again.",
        "未执行：页面打开时间过长，请查看最新状态后重试。",
    ),
    "failed_form": ("Not done: the form was not complete.", "未执行：表单不完整。"),
    "failed_confirm": ("Please confirm below.", "请在下方确认。"),
    "failed_over": (
        "Not done: it is over.",
        "未执行：事件已结束。",
    ),
    "failed_earlier": (
        "Not done: this message is of an earlier occurrence. Use a newer one.",
        "未执行：此消息属于之前的一次告警，请使用较新的消息。",
    ),
}


class PageWords:
    """All of them in one language."""

    def __init__(self, language: str) -> None:
        chosen = LANGUAGES.index(language)
        self.language = language
        self._words = {name: words[chosen] for name, words in WORDS.items()}

    def __getitem__(self, name: str) -> str:
        return self._words[name]

    def __contains__(self, name: object) -> bool:
        return name in self._words

    def fill(self, name: str, *values: object, **named: object) -> str:
        return self._words[name].format(*values, **named)


def reader_language(header: str, otherwise: str) -> str:
    """The first of our languages that an Accept-Language header names, by its weights."""
    wanted: list[tuple[float, int, str]] = []
    for place, part in enumerate(header[:500].split(",")):
        tag, _, weight = part.partition(";")
        language = tag.strip().lower().partition("-")[0]
        if language in LANGUAGES and (q := _weight(weight)) > 0:
            wanted.append((-q, place, language))
    return min(wanted)[2] if wanted else otherwise


def _weight(text: str) -> float:
    name, _, number = text.strip().partition("=")
    try:
        return float(number) if name.strip() == "q" else 1.0
    except ValueError:
        return 0.0
