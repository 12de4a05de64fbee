"""Every question that a panel or a variable asks is answered by real servers with real traffic, asked as Grafana's own user."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import pytest

from dashboards.boards.__main__ import BOARDS, FOLDER
from dashboards.look.ask import Sources, answers_of, choose, is_empty, panels_of, period_of
from dashboards.look.page import page
from tests.dashboards.watched import Watched

_FILES = {name: json.loads((FOLDER / f"{name}.json").read_text()) for name in BOARDS}

_LOOKS = 30  # all within the minute over which rates are taken

# Panels that may have nothing to say, and why.
MAY_BE_EMPTY = {
    "Violated truths of billing": "the worker looks for the first time a minute after it started",
    "Newest backup": "the first one takes as long as it takes",
}


@pytest.fixture
async def sources(watched: Watched) -> AsyncIterator[Sources]:
    """Prometheus, and PostgreSQL as the user that `vlaapi dashboards login` made."""
    connection = await asyncpg.connect(watched.reader)
    async with httpx.AsyncClient(base_url=watched.prometheus, timeout=60) as client:
        yield Sources(prometheus=client, postgres=connection)
    await connection.close()


@pytest.mark.parametrize("name", BOARDS)
async def test_every_panel_gets_an_answer(name: str, watched: Watched, sources: Sources) -> None:
    board: dict[str, Any] = _FILES[name]
    empty, shown = await looked_at(board, sources, watched.until)
    for _ in range(_LOOKS):  # what came last may have to wait for one more scrape, and for rules that read what rules wrote
        if not empty:
            break
        await asyncio.sleep(1)
        empty, shown = await looked_at(board, sources, datetime.now(UTC))
    assert empty == set()
    assert board["title"] in shown


async def looked_at(board: dict[str, Any], sources: Sources, until: datetime) -> tuple[set[str], str]:
    """What has no answer, and the board as a page."""
    period = period_of(board, now=until, rate_window="1m")
    chosen = await choose(sources, board, period)
    answers = {panel["id"]: await answers_of(sources, panel, chosen, period) for panel in panels_of(board)}
    empty = {
        f"{panel['title']}: {target.get('expr') or target['rawSql']}"
        for panel in panels_of(board)
        for target, found in zip(panel["targets"], answers[panel["id"]], strict=True)
        if is_empty(found) and panel["title"] not in MAY_BE_EMPTY
    }
    return empty | {variable for variable, value in chosen.items() if not value}, page(board, answers, chosen, period)
