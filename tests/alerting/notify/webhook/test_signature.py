import json
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from tocsin_alerting.notify.secret import Secret
from tocsin_alerting.notify.webhook.signature import signed_headers, signing_key

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_the_vector_of_the_specification() -> None:
    key = signing_key(Secret(SECRET))
    headers = signed_headers(
        [key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-timestamp"] == "1614265330"


def test_another_key_signs_otherwise() -> None:
    other = "whsec_" + "QUJD" * 8
    one = signed_headers([signing_key(Secret(SECRET))], "msg_a", 1, b"{}")
    assert one != signed_headers([signing_key(Secret(other))], "msg_a", 1, b"{}")


@pytest.mark.parametrize(
    "text",
    ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_short", "whsec_@@@@", "whsec_é"],
)
def test_a_secret_of_another_form_is_refused_unseen(text: str) -> None:
    with pytest.raises(ValueError, match="whsec_ and 24 to 64 bytes") as refused:
        signing_key(Secret(text))
    assert len(text) < 7 or text not in str(refused.value)


def test_the_reference_library_refuses_a_changed_body() -> None:
    now = 1_767_225_600
    headers = signed_headers([signing_key(Secret(SECRET))], "msg_a", now, b'{"a": 1}')
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(json.dumps({"a": 2}), headers)


def test_while_keys_change_over_either_verifies_and_another_does_not() -> None:
    now = int(time.time())
    old, foreign = "whsec_" + "QUJD" * 8, "whsec_" + "REVG" * 8
    keys = [signing_key(Secret(secret)) for secret in (SECRET, old)]
    headers = signed_headers(keys, "msg_a", now, b'{"a": 1}')
    for secret in (SECRET, old):
        assert Webhook(secret).verify(b'{"a": 1}', headers) == {"a": 1}
    with pytest.raises(WebhookVerificationError):
        Webhook(foreign).verify(b'{"a": 1}', headers)
