"""Structured logs: one JSON object a line on standard output, ours and every library's alike.

What may be logged is decided where it is logged (ids, codes, times; never a key, a picture or an instruction); as a second
wall, anything shaped like one of our API keys is cut here from whatever a library puts into a message or a traceback.
"""

import logging
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import BinaryIO

import msgspec
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

_HAS_ITS_OWN_HANDLERS = "uvicorn"  # in text; `uvicorn.access` is left alone, because a handler in reach would switch it on
_ENCODER = msgspec.json.Encoder(enc_hook=str)
_KEY = re.compile(r"(vla_[a-z]+_\w{4}|whsec_\w{4})[\w+/=]+")


def create_log(level: str, stream: BinaryIO | None = None) -> FilteringBoundLogger:
    """The process's log. Pass it on as a value; `adopt_libraries` sends what other libraries log the same way."""
    log: FilteringBoundLogger = structlog.wrap_logger(
        structlog.BytesLogger(stream or sys.stdout.buffer),
        processors=[
            structlog.processors.format_exc_info,
            _as_json,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
    ).bind()  # what `wrap_logger` itself gives puts itself together anew for every line
    return log


def adopt_libraries(log: FilteringBoundLogger, level: str) -> Callable[[], None]:
    """Sends the standard library's logging (uvicorn, SQLAlchemy, asyncio) into `log`. Returns what undoes it."""
    root, server, handler = logging.getLogger(), logging.getLogger(_HAS_ITS_OWN_HANDLERS), _ToLog(log)
    before = (root.level, server.handlers, server.propagate)
    root.addHandler(handler)
    root.setLevel(max(logging.INFO, logging.getLevelNamesMapping()[level.upper()]))
    server.handlers, server.propagate = [], True

    def undo() -> None:
        root.removeHandler(handler)
        level_before, server.handlers, server.propagate = before
        root.setLevel(level_before)

    return undo


class _ToLog(logging.Handler):
    """One record of the standard library becomes one line of ours."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        level = min(max(record.levelno, logging.DEBUG), logging.CRITICAL)
        self._log.log(level, record.getMessage(), logger=record.name, exc_info=record.exc_info or None)


def cut_keys(text: str) -> str:
    """The text with anything shaped like one of our keys, or a webhook's signing secret, cut after its readable start."""
    return _KEY.sub(r"\1…", text) if "vla_" in text or "whsec_" in text else text


def _as_json(_logger: WrappedLogger, method: str, event: EventDict) -> bytes:
    """The line. Cut as a whole, so that a key is found in whatever value it stands; JSON escapes nothing that a key has."""
    event["level"], event["timestamp"] = method, datetime.now(UTC)  # two steps of structlog's own cost a request twice as much
    line = _ENCODER.encode(event)
    return cut_keys(line.decode()).encode() if b"vla_" in line or b"whsec_" in line else line
