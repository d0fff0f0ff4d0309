import re

from support.channel_contract import ChannelContract, answered, statuses
from support.vendors.double import answer_json
from support.vendors.wecom import WECOM_KEY, WecomRobot

_PATH = f"/cgi-bin/webhook/send?key={WECOM_KEY}"


def _heard(robot: WecomRobot) -> str:
    """What is coloured without the tag, and links as label and URL."""
    content = re.sub(
        r'<font color="\w+">(.*?)</font>', r"\1", robot.messages[-1]["markdown"]["content"]
    )
    return re.sub(r"\[([^\]]*)\]\(([^)]*)\)", r"\1 \2", content)


CONTRACT = ChannelContract(
    kind="wecom",
    section=lambda address: {"url_env": "URL", "timeout": "500ms"},
    address_env=lambda address: {"URL": address + _PATH},
    secrets=frozenset({WECOM_KEY}),
    double=WecomRobot,
    heard=_heard,
    mentioned=lambda robot: robot.mentioned,
    answers={
        "`errcode` 0": statuses(200, body='{"errcode": 0, "errmsg": "ok"}'),
        "`errcode` 45009, too many a minute (again after 60 s), -1, 45033": statuses(
            200, body='{"errcode": 45009}'
        ),
        "`errcode` 93000, 93008, 40058, 41000 to 41999": answered(
            *(answer_json({"errcode": code}) for code in (93000, 93008, 40058, 41001))
        ),
        "another `errcode` (three times, then refused)": statuses(200, body='{"errcode": 99999}'),
        "HTTP 200 with JSON that has no `errcode`": statuses(200, body='{"hello": "you"}'),
        "HTTP 200 with something else": statuses(200, body="<html>sign in to this Wi-Fi</html>"),
    },
)
