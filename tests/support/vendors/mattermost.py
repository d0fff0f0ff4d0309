"""A Mattermost server's incoming webhooks, as docs.mattermost.com/developers/integrate describes
them: webhooks/incoming, reference/message-attachments, reference/message-priority."""

import json
import re
from typing import Any

from support.vendors.judging import JudgingSink
from support.webhook_sink import Answer, Received

MATTERMOST_PATH = "/hooks/abc123keyofours"
_MENTION = re.compile(r"(?:^|(?<=[^a-z0-9._-]))@([a-z0-9._-]+)", re.IGNORECASE)


class MattermostDouble(JudgingSink):
    """`posts` are the bodies that it took; `called` the names after an `@`."""

    def __init__(self, *answers: Answer, port: int = 0) -> None:
        super().__init__(*answers, port=port)
        self.posts: list[dict[str, Any]] = []
        self.called: list[str] = []

    @property
    def hook_url(self) -> str:
        return f"http://127.0.0.1:{self.port}{MATTERMOST_PATH}"

    def judge(self, request: Received) -> Answer:
        if request.path != MATTERMOST_PATH:
            return self._refused(400, "Invalid webhook.")
        post = request.json()
        attachments = post.get("attachments", [])
        if not post.get("text") and not attachments:
            return self._refused(400, "No text specified.")
        texts = [post.get("text", ""), *(one.get("text", "") for one in attachments)]
        if any(len(text) > 16_383 for text in texts):
            return self._refused(400, "Message text is too long.")
        if any(not one.get("fallback") for one in attachments):
            return self._refused(400, "fallback is required")
        if (post.get("priority") or {"priority": "urgent"})["priority"] not in (
            "urgent",
            "important",
        ):
            return self._refused(400, "no such priority")
        self.posts.append(post)
        self.called += [name for text in texts for name in _MENTION.findall(text)]
        return Answer(200, {"Content-Type": "text/plain"}, b"ok")

    def _refused(self, status: int, text: str) -> Answer:
        self.complaints.append(text)
        said = {"id": "web.incoming_webhook.app_error", "message": text, "status_code": status}
        return Answer(status, {"Content-Type": "application/json"}, json.dumps(said).encode())
