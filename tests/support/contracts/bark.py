from support.channel_contract import ChannelContract, answered, statuses
from support.contracts.webhook import texts
from support.vendors.bark import BARK_KEY, BarkServer
from support.webhook_sink import Answer

CONTRACT = ChannelContract(
    kind="bark",
    section=lambda address: {
        "api_url": address,
        "device_key_env": "KEY",
        "username": "me",
        "password_env": "PW",
        "timeout": "500ms",
    },
    env={"KEY": BARK_KEY, "PW": "bark-pass-word"},
    double=lambda: BarkServer("me", "bark-pass-word"),
    heard=lambda server: "\n".join(texts(server.pushed[-1])),
    answers={
        "`code` 200": statuses(200, body='{"code": 200, "message": "success"}'),
        "`code` 400, a device key that the server does not know": statuses(
            400, body='{"code": 400, "message": "failed to get device token"}'
        ),
        "`code` 500, Apple does not know the phone (`BadDeviceToken`, `Unregistered`)": statuses(
            500, body='{"code": 500, "message": "push failed: BadDeviceToken"}'
        ),
        "`code` 500 otherwise": statuses(500, body='{"code": 500, "message": "push failed"}'),
        "HTTP 418, a wrong password": answered(Answer(418, body=b"I'm a teapot")),
    },
)
