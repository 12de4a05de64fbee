"""`python -m dashboards.boards`: writes every dashboard beside this package; `make golden` calls it and a test compares."""

from collections.abc import Mapping
from pathlib import Path

from dashboards.boards.board import Board
from dashboards.boards.business import BUSINESS
from dashboards.boards.customers import CUSTOMERS
from dashboards.boards.gpu import GPU
from dashboards.boards.grafana import written
from dashboards.boards.operations import OPERATIONS
from dashboards.boards.policies import POLICIES

FOLDER = Path(__file__).resolve().parent.parent
BOARDS: Mapping[str, Board] = {
    "operations": OPERATIONS,
    "business": BUSINESS,
    "customers": CUSTOMERS,
    "policies": POLICIES,
    "gpu": GPU,
}


def main() -> None:
    """Overwrites the files."""
    for name, board in BOARDS.items():
        (FOLDER / f"{name}.json").write_text(written(board), encoding="utf-8")


if __name__ == "__main__":
    main()
