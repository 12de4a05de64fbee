"""One JSON object a line, for our own events and for every library's; a key is cut wherever it turns up."""

import io
import json
import logging
from typing import Any

from control_plane.logs import adopt_libraries, create_log

KEY = "vla_live_ab12cdefghijklmnopqrstuvwxyz0123456"


def lines(stream: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_line_with_level_and_time() -> None:
    stream = io.BytesIO()
    create_log("info", stream).info("started", policies=["tabletop"])
    (line,) = lines(stream)
    assert (line["event"], line["level"], line["policies"]) == ("started", "info", ["tabletop"])
    assert line["timestamp"].endswith("Z")


def test_below_the_level_nothing_is_written() -> None:
    stream = io.BytesIO()
    create_log("warning", stream).info("chatter")
    assert stream.getvalue() == b""


def test_a_key_is_cut_in_messages_fields_and_tracebacks() -> None:
    stream = io.BytesIO()
    log = create_log("info", stream)
    log.info("refused", message=f"no such key: {KEY}", header=f"Bearer {KEY}")
    try:
        raise ValueError(KEY)
    except ValueError:
        log.exception("failed")
    text = stream.getvalue().decode()
    assert KEY not in text
    assert text.count("vla_live_ab12…") == 3


def test_a_key_is_cut_inside_other_values_and_the_line_stays_json() -> None:
    stream = io.BytesIO()
    create_log("info", stream).info("odd", parts=[{"said": f'"{KEY}"\n'}])
    assert KEY not in stream.getvalue().decode()
    (line,) = lines(stream)
    assert line["parts"][0] == {"said": '"vla_live_ab12…"\n'}


def test_libraries_write_the_same_lines_until_let_go() -> None:
    stream = io.BytesIO()
    log = create_log("info", stream)
    before = (logging.getLogger().level, list(logging.getLogger().handlers), logging.getLogger("uvicorn").propagate)
    undo = adopt_libraries(log, "info")
    logging.getLogger("sqlalchemy.pool").warning("connection %s lost", 7)
    logging.getLogger("uvicorn.error").info("Application startup complete.")
    logging.getLogger("somewhere").debug("chatter")
    undo()
    logging.getLogger("sqlalchemy.pool").error("not ours any more")
    assert [(line["logger"], line["event"], line["level"]) for line in lines(stream)] == [
        ("sqlalchemy.pool", "connection 7 lost", "warning"),
        ("uvicorn.error", "Application startup complete.", "info"),
    ]
    assert (logging.getLogger().level, list(logging.getLogger().handlers), logging.getLogger("uvicorn").propagate) == before


def test_what_json_cannot_hold_is_written_as_text() -> None:
    stream = io.BytesIO()
    create_log("info", stream).info("odd", value=object, exponent=2**70)
    assert len(lines(stream)) == 1
