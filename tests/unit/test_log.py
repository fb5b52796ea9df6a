"""No line of the log says what a person was told, their number, or a key."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from producers.masking import mask, mask_all
from worker.log import configure_logging, redact

NUMBER = "+13125550001"
SECRETS = ("3125550001", "the code is 4711", "s3cr3t-token", "https://example.com/photo.png")


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in ("telnyx", "httpx", "httpcore", "aiohttp", "asyncio")}
    stream = io.StringIO()
    configure_logging("debug", json=True, stream=stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)
    for name, was in levels.items():
        logging.getLogger(name).setLevel(was)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_numbers_are_masked() -> None:
    assert mask(NUMBER) == "+1312***0001"
    assert mask_all(f"from {NUMBER} to %2B447400123456.") == "from +1312***0001 to +4474***3456."


@given(st.from_regex(r"\+[1-9][0-9]{7,14}", fullmatch=True))
def test_a_mask_hides_at_least_three_digits_of_any_number(number: str) -> None:
    shown = mask(number).replace("***", "")
    assert len(number) - len(shown) >= 3
    assert number not in mask_all(f"x{number}y")


def test_short_addresses_show_nothing() -> None:
    assert mask("12345") == "***"


def test_our_events_are_redacted_however_deep(log: io.StringIO) -> None:
    structlog.get_logger("t").info(
        "message_accepted",
        text="the code is 4711",
        recipient=NUMBER,
        request={"Authorization": "Bearer s3cr3t-token", "to": [NUMBER, {"body": "the code is 4711"}], NUMBER: 1},
        media_urls=["https://example.com/photo.png"],
        variables={"code": "4711"},
        waited_ms=412,
    )
    (line,) = lines(log)
    assert line["event"] == "message_accepted"
    assert (line["recipient"], line["waited_ms"], line["level"]) == ("+1312***0001", 412, "info")
    assert line["request"] == {"to": ["+1312***0001", {}], "+1312***0001": 1}
    assert not [secret for secret in SECRETS if secret in log.getvalue()]


@pytest.mark.parametrize("name", ["dramatiq", "uvicorn.access", "uvicorn.error", "aiohttp.server"])
def test_what_libraries_say_is_redacted_and_comes_once(log: io.StringIO, name: str) -> None:
    logging.getLogger(name).warning('GET "/v1/opt-outs/%s" for %s with Bearer s3cr3t-token', "%2B13125550001", NUMBER)
    (line,) = lines(log)
    assert line["event"] == 'GET "/v1/opt-outs/+1312***0001" for +1312***0001 with Bearer ***'
    assert line["logger"] == name


def test_tracebacks_are_masked(log: io.StringIO) -> None:
    try:
        raise ValueError(f"no such person: {NUMBER}")
    except ValueError:
        structlog.get_logger("t").exception("send_failed")
        logging.getLogger("dramatiq").exception("failed for %s", NUMBER)
    for line in lines(log):
        assert "ValueError: no such person: +1312***0001" in line["exception"]
    assert "3125550001" not in log.getvalue()


def test_objects_are_masked_as_they_would_be_printed(log: io.StringIO) -> None:
    class Recipient:
        def __repr__(self) -> str:
            return f"<Recipient {NUMBER}>"

    structlog.get_logger("t").info("seen", recipient=Recipient(), many={NUMBER}, raw=NUMBER.encode())
    (line,) = lines(log)
    assert line["recipient"] == "<Recipient +1312***0001>"
    assert line["many"] == ["+1312***0001"]
    assert "3125550001" not in log.getvalue()


@pytest.mark.parametrize("name", ["telnyx._base_client", "httpx", "httpcore.http11"])
def test_libraries_that_log_whole_requests_stay_silent_below_warning(log: io.StringIO, name: str) -> None:
    logging.getLogger(name).debug("Request options: %s", {"json_data": {"text": "the code is 4711"}})
    logging.getLogger(name).info("POST https://api.telnyx.com/v2/messages?ref=1")
    assert log.getvalue() == ""


def test_lines_for_people_are_redacted_too(log: io.StringIO) -> None:
    stream = io.StringIO()
    configure_logging("info", json=False, stream=stream)
    try:
        raise ValueError(NUMBER)
    except ValueError:
        logging.getLogger("dramatiq").exception("failed")
    assert "+1312***0001" in stream.getvalue()
    assert "3125550001" not in stream.getvalue()


def test_the_level_is_obeyed(log: io.StringIO) -> None:
    stream = io.StringIO()
    configure_logging("warning", json=True, stream=stream)
    structlog.get_logger("other").info("quiet")
    logging.getLogger("dramatiq").info("quiet")
    structlog.get_logger("other").warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just(NUMBER) | st.just(f"to {NUMBER}"),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["a", "text", "Body", "to", NUMBER]), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["event", "x", "TEXT", "to"]), json_values))
def test_no_shape_of_values_lets_a_number_or_a_text_through(event: dict[str, Any]) -> None:
    cleaned = json.dumps(redact(None, "info", event)).lower()
    assert "3125550001" not in cleaned
    assert '"text":' not in cleaned
    assert '"body":' not in cleaned
