from __future__ import annotations

import asyncio
import re

import pytest

from airflow_imagesync.notifications.log import LogNotifier


def test_the_message_is_in_the_log_with_its_level(capsys: pytest.CaptureFixture[str]) -> None:
    LogNotifier("{{ what }}", level="error")({"what": "a %s message"})
    assert re.search(r"\[error *\] a %s message", capsys.readouterr().out)


def test_a_deadline_is_logged_too(capsys: pytest.CaptureFixture[str]) -> None:
    async def called_back() -> None:
        await LogNotifier("late", context={"deadline": {}})

    asyncio.run(called_back())
    assert re.search(r"\[warning *\] late", capsys.readouterr().out)


def test_a_level_that_does_not_exist_is_told() -> None:
    with pytest.raises(ValueError, match="there is no log level 'loud'; expected one of CRITICAL, "):
        LogNotifier("x", level="loud")
