"""Keeps what the command line does to the log away from later tests."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from airflow_imagesync.cli.terminal import PACKAGE_LOGGER


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    logger = logging.getLogger(PACKAGE_LOGGER)
    before = logger.handlers, logger.level, logger.propagate
    yield
    logger.handlers, logger.level, logger.propagate = before
