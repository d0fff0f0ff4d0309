from dataclasses import replace

from support.channel_contract import statuses
from support.contracts.aliyun_sms import (
    CONTRACT as SMS,
)
from support.contracts.aliyun_sms import (
    LIMITED,
    LOST,
    PARAMS,
    REFUSED,
    WRONG_NUMBER,
)
from support.vendors.aliyun import ALIYUN_ID

CONTRACT = replace(
    SMS,
    kind="aliyun_voice",
    section=lambda address: {
        "api_url": address,
        "access_key_id": ALIYUN_ID,
        "access_key_secret_env": "SECRET",
        "template_code": "TTS_123456789",
        "params": PARAMS,
        "to": ["+8613800000001"],
        "timeout": "500ms",
    },
    lost=LOST + "#%&-_*|`~^=",  # what a voice does not say
    answers={
        "`Code` OK": statuses(200, body='{"Code": "OK", "CallId": "1^2"}'),
        "`Code` isv.BUSINESS_LIMIT_CONTROL (again after 1 min or 1 h), isp.SYSTEM_ERROR": statuses(
            200, body=LIMITED
        ),
        "`Code` isv.AMOUNT_NOT_ENOUGH, isv.VOICE_CALL_PERIOD_ERROR and others": statuses(
            200, body=REFUSED
        ),
        "`Code` isv.MOBILE_NUMBER_ILLEGAL for the only number": statuses(200, body=WRONG_NUMBER),
    },
)
