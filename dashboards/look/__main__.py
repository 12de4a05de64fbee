"""`LOOK_POSTGRES_URL=… python -m dashboards.look --prometheus URL --out FOLDER`: every dashboard as a page.

With Chromium there, as a picture too. The address of PostgreSQL is read from the environment because it holds a password.
"""

import argparse
import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from dashboards.look.ask import Sources, answers_of, choose, panels_of, period_of
from dashboards.look.page import WIDTH, height, page

FILES = sorted(Path(__file__).resolve().parents[1].glob("*.json"))


async def looked_at(sources: Sources, board: Mapping[str, Any], *, rate_window: str) -> str:
    """The page of a dashboard, now."""
    period = period_of(board, rate_window=rate_window)
    chosen = await choose(sources, board, period)
    answers = {panel["id"]: await answers_of(sources, panel, chosen, period) for panel in panels_of(board)}
    return page(board, answers, chosen, period)


async def look(prometheus: str, postgres: str, out: Path, *, rate_window: str) -> None:
    """Writes a page for each dashboard into the folder."""
    connection = await asyncpg.connect(postgres)
    async with httpx.AsyncClient(base_url=prometheus, timeout=30) as client:
        sources = Sources(prometheus=client, postgres=connection)
        for file in FILES:
            board = json.loads(file.read_text())
            (out / f"{file.stem}.html").write_text(await looked_at(sources, board, rate_window=rate_window), encoding="utf-8")
    await connection.close()


def main() -> None:
    """Reads the command line."""
    words = argparse.ArgumentParser(prog="python -m dashboards.look", description="Draw the dashboards without Grafana.")
    words.add_argument("--prometheus", required=True, help="address of Prometheus")
    words.add_argument("--out", required=True, type=Path, help="folder for pages and pictures")
    words.add_argument("--rate-window", default="1m", help="what $__rate_interval stands for: at least four scrapes")
    given = words.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    asyncio.run(look(given.prometheus, os.environ["LOOK_POSTGRES_URL"], given.out, rate_window=given.rate_window))
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    for file in FILES if chromium else ():
        _photograph(chromium or "", given.out / f"{file.stem}.html", height(json.loads(file.read_text())) + 50)


def _photograph(chromium: str, html: Path, tall: int) -> None:
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1")
    picture = f"--screenshot={html.with_suffix('.png')}"
    subprocess.run([chromium, *flags, picture, f"--window-size={WIDTH},{tall}", html.as_uri()], check=True, capture_output=True)


if __name__ == "__main__":
    main()
