"""One log for all: our events, and what Dramatiq, uvicorn, the SDK and aiohttp say, in the same form.

Whatever goes wrong elsewhere, no line holds what a person was told, a full phone number or a key. So redaction is the
last step before rendering, over every value of every line, also of the libraries' and of tracebacks. Invariants:

- A value under one of ``DROPPED`` never appears, however deep it lies.
- A phone number in any string appears masked.
- Libraries that log requests whole at DEBUG stay at WARNING, whatever level is asked for.
"""

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from producers.masking import mask_all

DROPPED = frozenset(
    {
        "api_key", "authorization", "body", "content", "media_urls", "password", "secret", "subject", "telnyx_api_key",
        "text", "variables", "whatsapp", "whatsapp_message",
    }
)  # fmt: skip
# At DEBUG the SDK logs the body of each request, and httpx each URL.
_TALKATIVE = ("telnyx", "httpx", "httpcore", "aiohttp", "asyncio")
# These bring handlers of their own, which would print a line twice and unredacted.
_WITH_HANDLERS = ("dramatiq", "uvicorn", "uvicorn.error", "uvicorn.access")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}")


def configure_logging(level: str, *, json: bool, colors: bool = False, stream: TextIO | None = None) -> None:
    """Set up logging for this process, once, before the first event. Run uvicorn with ``log_config=None``.

    Args:
        level: debug, info, warning, error or critical.
        json: One JSON object a line, for machines; otherwise lines for people.
        colors: In lines for people.
        stream: Where lines go; standard error unless given, since standard output belongs to the commands' results.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,  # before redaction, since a traceback quotes values
            redact,
            _renderer(json=json, colors=colors),
        ],
    )
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in _WITH_HANDLERS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Take out what must not be logged, and mask numbers, in every value of one event."""
    return _clean_mapping(event)


def _renderer(*, json: bool, colors: bool) -> Processor:
    if json:
        return structlog.processors.JSONRenderer(ensure_ascii=False)
    return structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)


def _clean_mapping(values: Mapping[Any, Any]) -> dict[Any, Any]:
    return {
        _clean(key): _clean(value)
        for key, value in values.items()
        if not (isinstance(key, str) and key.lower() in DROPPED)
    }


def _clean(value: object) -> Any:
    """The value without what must not be logged. What the renderer would call ``repr`` on becomes text here, masked."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _BEARER.sub(r"\1 ***", mask_all(value))
    if isinstance(value, Mapping):
        return _clean_mapping(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(inner) for inner in value]
    return _clean(repr(value))
