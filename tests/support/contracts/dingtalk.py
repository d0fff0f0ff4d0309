import re

from support.channel_contract import ChannelContract, answered, statuses
from support.notifications import NEW_YEAR_MS
from support.vendors.dingtalk import DINGTALK_SECRET, DINGTALK_TOKEN, DingtalkRobot
from support.vendors.double import answer_json

_REFUSED = "`errcode` 310000 (signature, clock, keyword or address), 400013, 400101, 400102, 400106"
_PATH = f"/robot/send?access_token={DINGTALK_TOKEN}"


def _heard(robot: DingtalkRobot) -> str:
    """Headings without their marks, links and buttons as label and URL."""
    message = robot.messages[-1][robot.messages[-1]["msgtype"]]
    text = re.sub(r"\[([^\]]*)\]\(([^)]*)\)", r"\1 \2", message["text"])
    button = f"{message.get('singleTitle', '')} {message.get('singleURL', '')}"
    return "\n".join((re.sub(r"(?m)^### ", "", text), message["title"], button))


CONTRACT = ChannelContract(
    kind="dingtalk",
    section=lambda address: {"url_env": "URL", "secret_env": "SECRET", "timeout": "500ms"},
    env={"SECRET": DINGTALK_SECRET},
    address_env=lambda address: {"URL": address + _PATH},
    secrets=frozenset({DINGTALK_TOKEN}),
    double=lambda: DingtalkRobot(NEW_YEAR_MS),
    heard=_heard,
    mentioned=lambda robot: robot.mentioned,
    answers={
        "`errcode` 0": statuses(200, body='{"errcode": 0, "errmsg": "ok"}'),
        "`errcode` 130101, too many a minute (again after 10 min), 410100, -1": statuses(
            200, body='{"status": 1111, "wait": 5, "punish": "deny", "errcode": 130101}'
        ),
        _REFUSED: answered(
            answer_json({"errcode": 310000, "errmsg": "sign not match"}),
            *(answer_json({"errcode": code}) for code in (400013, 400101, 400102, 400106)),
        ),
        "another `errcode` (three times, then refused)": statuses(200, body='{"errcode": 99999}'),
        "HTTP 200 with JSON that has no `errcode`": statuses(200, body='{"hello": "you"}'),
        "HTTP 200 with something else": statuses(200, body="<html>sign in to this Wi-Fi</html>"),
    },
)
