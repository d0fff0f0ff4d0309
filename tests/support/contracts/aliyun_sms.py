import json

from support.channel_contract import ChannelContract, statuses
from support.hostile_texts import HOSTILE_TEXTS
from support.notifications import NEW_YEAR_MS
from support.vendors.aliyun import ALIYUN_ID, ALIYUN_SECRET, AliyunApi

PARAMS = {"level": "severity", "no": "number", "host": "machine", "text": "what", "state": "state"}
# No emoji, and what would be a link, a signature or a variable is none.
LOST = "【】[]{}<>$\\:/." + "".join(
    char for text in HOSTILE_TEXTS.values() for char in text if ord(char) > 0xFFFF
)
LIMITED = '{"Code": "isv.BUSINESS_LIMIT_CONTROL", "Message": "触发分钟级流控Permits:1"}'
REFUSED = '{"Code": "isv.AMOUNT_NOT_ENOUGH", "Message": "账户余额不足"}'
WRONG_NUMBER = '{"Code": "isv.MOBILE_NUMBER_ILLEGAL"}'


def heard(api: AliyunApi) -> str:
    taken = api.taken[-1]
    return "\n".join(json.loads(taken.get("TemplateParam") or taken["TtsParam"]).values())


CONTRACT = ChannelContract(
    kind="aliyun_sms",
    section=lambda address: {
        "api_url": address,
        "access_key_id": ALIYUN_ID,
        "access_key_secret_env": "SECRET",
        "sign_name": "某某科技",
        "template_code": "SMS_123456789",
        "params": PARAMS,
        "max_length": 300,
        "to": ["+8613800000001"],
        "timeout": "500ms",
    },
    env={"SECRET": ALIYUN_SECRET},
    secrets=frozenset({"13800000001"}),
    double=lambda: AliyunApi(NEW_YEAR_MS, tuple(PARAMS), most_each=300),
    heard=heard,
    has_link=False,
    lost=LOST,
    answers={
        "`Code` OK": statuses(200, body='{"Code": "OK", "BizId": "1^2"}'),
        "`Code` isv.BUSINESS_LIMIT_CONTROL, isp.SYSTEM_ERROR, Throttling": statuses(
            200, body=LIMITED
        ),
        "`Code` isv.AMOUNT_NOT_ENOUGH, isp.RAM_PERMISSION_DENY and others": statuses(
            200, body=REFUSED
        ),
        "`Code` isv.MOBILE_NUMBER_ILLEGAL for the only number": statuses(200, body=WRONG_NUMBER),
    },
)
