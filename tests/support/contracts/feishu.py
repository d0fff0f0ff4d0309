from support.channel_contract import ChannelContract, answered, statuses
from support.contracts.webhook import texts
from support.notifications import NEW_YEAR_MS
from support.vendors.feishu import FEISHU_SECRET, FEISHU_TOKEN, FeishuBot
from support.webhook_sink import Answer

_PATH = f"/open-apis/bot/v2/hook/{FEISHU_TOKEN}"
_GATEWAY = b'{"code": 99991400, "msg": "request trigger frequency limit"}'

CONTRACT = ChannelContract(
    kind="feishu",
    section=lambda address: {"url_env": "URL", "secret_env": "SECRET", "timeout": "500ms"},
    env={"SECRET": FEISHU_SECRET},
    address_env=lambda address: {"URL": address + _PATH},
    secrets=frozenset({FEISHU_TOKEN}),
    double=lambda: FeishuBot(NEW_YEAR_MS // 1000),
    heard=lambda bot: "\n".join(texts(bot.cards[-1])),
    mentioned=lambda bot: bot.mentioned,
    answers={
        "`code` 0": statuses(200, body='{"code": 0, "msg": "success"}'),
        "`code` 11232, too many messages (again after `x-ogw-ratelimit-reset`, or 15 s)": answered(
            Answer(200, {}, b'{"code": 11232}'), Answer(429, {}, b'{"code": 11232}')
        ),
        "`code` 99991400, with HTTP 429 or 400 (again after `x-ogw-ratelimit-reset`)": answered(
            *(Answer(status, {"x-ogw-ratelimit-reset": "52"}, _GATEWAY) for status in (429, 400))
        ),
        "HTTP 429 with another `code`": answered(
            Answer(429, {}, b'{"code": 1234567}'), Answer(429, {}, b'{"code": 9499}')
        ),
        "`code` 9499, 19001, 19021, 19022, 19024": answered(
            *(
                Answer(status, {}, b'{"code": %d}' % code)
                for status in (200, 400)
                for code in (9499, 19001, 19021, 19022, 19024)
            )
        ),
        "another `code` (three times, then refused)": statuses(200, body='{"code": 1234567}'),
        "HTTP 200 with JSON that has no `code`": statuses(200, body='{"hello": "you"}'),
        "HTTP 200 with something else": statuses(200, body="<html>sign in to this Wi-Fi</html>"),
    },
)
