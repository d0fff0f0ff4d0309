import logging
from dataclasses import replace

import pytest

from support.notifications import ENGINE_DOWN, NEW_YEAR_MS, notification, resolved
from tocsin_alerting.incidents.incident import Reason
from tocsin_alerting.incidents.notification import Notification
from tocsin_alerting.incidents.outbox_message import Delivered
from tocsin_alerting.notify.channel import ChannelDeps
from tocsin_alerting.notify.log import Log, LogSettings
from tocsin_alerting.notify.secret import Vault


@pytest.mark.parametrize(
    ("page", "level", "words"),
    [
        (notification(), logging.ERROR, "acknowledge: alertctl ack 42"),
        (notification(severity="P3"), logging.WARNING, "P3 InferenceEngineDown"),
        (
            notification(reason=Reason.ACKED, actor="li", state="ACKED"),
            logging.INFO,
            "P0 acknowledged InferenceEngineDown 127.0.0.1:8000 (#42), by li: ",
        ),
        (resolved(), logging.INFO, "P0 resolved InferenceEngineDown 127.0.0.1:8000 (#42) after 5m"),
    ],
)
async def test_one_line_a_message(
    page: Notification, level: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    deps = ChannelDeps(vault=Vault({}, lambda path: ""))
    log = Log("log", LogSettings(type="log"), deps)
    assert isinstance(await log.send(page, NEW_YEAR_MS), Delivered)
    (record,) = caplog.records
    assert record.levelno == level and words in record.getMessage()
    assert "\n" not in record.getMessage()


async def test_punctuation_where_there_is_no_reason_and_a_summary_with_a_full_stop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    slow = replace(ENGINE_DOWN, annotations={"summary": "Answers are slow.\n"})
    log = Log("log", LogSettings(type="log"), ChannelDeps(vault=Vault({}, lambda path: "")))
    for reason in (Reason.OPENED, Reason.ESCALATED):
        await log.send(notification(alerts=(slow,), reason=reason), NEW_YEAR_MS)
    opened, escalated = (record.getMessage() for record in caplog.records)
    assert opened.endswith("(#42): Answers are slow; acknowledge: alertctl ack 42")
    assert "(#42) escalated: Answers are slow; " in escalated
