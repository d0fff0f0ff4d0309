import logging

import pytest

from support.notifications import NEW_YEAR_MS, notification, resolved
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.notify.channel import Done
from tocsin_alerting.notify.log import Log, LogSettings
from tocsin_alerting.notify.secret import Vault
from tocsin_alerting.notify.supplies import Supplies


@pytest.mark.parametrize(
    ("page", "level", "words"),
    [
        (notification(), logging.ERROR, "acknowledge: alertctl ack 42"),
        (notification(severity="P3"), logging.WARNING, "P3 InferenceEngineDown"),
        (resolved(), logging.INFO, "P0 resolved InferenceEngineDown 127.0.0.1:8000 (#42) after 5m"),
    ],
)
async def test_one_line_a_message(
    page: Notification, level: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    supplies = Supplies(vault=Vault({}, lambda path: ""))
    log = Log("log", LogSettings(type="log"), supplies)
    assert isinstance(await log.send(page, NEW_YEAR_MS), Done)
    (record,) = caplog.records
    assert record.levelno == level and words in record.getMessage()
    assert "\n" not in record.getMessage()
