from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from worker.engine import spool as module
from worker.engine.spool import Spool


class Reader(logging.Handler):
    """Reads nothing until it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.may_read = threading.Event()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.may_read.wait(10)
        self.lines.append(record.getMessage())


@pytest.fixture
def reader() -> Iterator[Reader]:
    root = logging.getLogger()
    before = list(root.handlers)
    reader = Reader()
    root.handlers[:] = [reader]
    yield reader
    root.handlers[:] = before


def test_a_reader_that_pauses_delays_nobody_and_gets_all_lines_in_order(reader: Reader) -> None:
    spool = Spool()
    spool.start()
    for number in range(50):
        logging.getLogger("test").warning("line %d", number)
    assert reader.lines == []
    reader.may_read.set()
    spool.stop()
    spool.stop()
    assert reader.lines == [f"line {number}" for number in range(50)]
    logging.getLogger("test").warning("later")
    assert reader.lines[-1] == "later"


def test_what_does_not_fit_is_dropped_and_counted(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 10)
    spool = Spool()
    spool.start()
    for number in range(30):
        logging.getLogger("test").warning("line %d", number)
    assert 18 <= spool.dropped <= 20
    reader.may_read.set()
    spool.stop()
