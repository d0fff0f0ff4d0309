"""What a message says, in the reader's language: templates, and the words of each language."""

from collections.abc import Mapping
from datetime import UTC, tzinfo
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.notify.template_context import TemplateContext, template_context

LANGUAGES = ("en", "zh")
_TEMPLATE_FILES = ("line.txt", "subject.txt", "text.txt", "page.html")


class MessageTemplates:
    """Renders notifications in one language, with times in `zone` and in UTC; `hostname` is this
    machine's name, and `alertctl` how the reader calls it there. `now_ms` is when it is sent."""

    def __init__(
        self,
        language: str = "en",
        zone: tzinfo = UTC,
        hostname: str = "",
        alertctl: str = "alertctl",
    ) -> None:
        self._zone, self._hostname, self._alertctl = zone, hostname, alertctl
        environment = Environment(
            loader=PackageLoader("tocsin_alerting.notify"),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        words: Any = environment.get_template(f"words.{language}.txt").module
        environment.globals |= {"language": language, "w": words}
        self._headlines: Mapping[str, str] = words.headlines
        self._failed_suffix: str = words.label["failed"]
        # Compiled now: on a busy machine that takes a second which the first page does not have.
        self._templates = {name: environment.get_template(name) for name in _TEMPLATE_FILES}

    def line(self, notification: Notification) -> str:
        """All in one line, for a log: what it is, its summary, how to answer."""
        return _one_line(self._render("line.txt", notification, None), longest=500)

    def subject(self, notification: Notification) -> str:
        """`[P0] gpu-1: Engine 127.0.0.1:8000 does not answer (#42)`, then `[P0 resolved] …`."""
        return _one_line(self._render("subject.txt", notification, None))

    def text(self, notification: Notification, now_ms: int | None = None) -> str:
        return self._render("text.txt", notification, now_ms).strip() + "\n"

    def html(self, notification: Notification, now_ms: int | None = None) -> str:
        return self._render("page.html", notification, now_ms).strip() + "\n"

    def _render(self, name: str, notification: Notification, now_ms: int | None) -> str:
        shown = template_context(
            notification, self._zone, self._hostname, now_ms, self._failed_suffix
        )
        head = self._headline(shown)
        return self._templates[name].render(shown, head=head, alertctl=self._alertctl)

    def _headline(self, shown: TemplateContext) -> str:
        """How it stands; what fires, as long as it does and nobody is on it."""
        lasted, actor = str(shown["lasted"]), str(shown["actor"])
        match shown["kind"]:
            case "firing":
                return self._headlines["owned"] if shown["owned"] else str(shown["what"])
            case "acked":
                return self._headlines["acked"] % actor
            case "resolved" | "given_up" | "unwatched" as kind:
                return self._headlines[kind] % lasted
            case "closed_firing" | "closed_unknown" as kind:
                return self._headlines[kind] % actor
            case "missed":
                return self._headlines["missed"] % (shown["fired"], shown["ended"])
            case kind:
                return self._headlines[str(kind)]


def _one_line(text: str, longest: int = 200) -> str:
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"
