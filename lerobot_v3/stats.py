"""Statistics of a feature over an episode, and of a dataset over its episodes: what trainers normalise with.

Moments are exact; quantiles of a dataset are the episodes' weighted by their frames, as LeRobot has them. Knows no file.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Stats = Mapping[str, Array]

_QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
NAMES = ("min", "max", "mean", "std", "count", *_QUANTILES)
_WIDEST_PX = 150  # of a picture that is counted; more changes nothing


def of_rows(rows: NDArray[np.generic]) -> dict[str, Array]:
    """`rows`: (T, D), or (T,) for one number. Each value but `count` has shape (D,)."""
    table = rows.astype(np.float64).reshape(len(rows), -1)
    moments = {
        "min": table.min(0),
        "max": table.max(0),
        "mean": table.mean(0),
        "std": table.std(0),
        "count": np.array([len(table)], dtype=np.float64),
    }
    return moments | dict(zip(_QUANTILES, np.quantile(table, list(_QUANTILES.values()), axis=0), strict=True))


def is_counted(index: int, length: int) -> bool:
    """Whether frame `index` of `length` is one of the up to 50 whose pixels are counted."""
    return index % max(1, -(-length // 50)) == 0


def of_pictures(pictures: Iterable[NDArray[np.uint8]]) -> dict[str, Array]:
    """Each picture (H, W, 3); values have shape (3, 1, 1), in 0..1."""
    thinned, count = [], 0
    for picture in pictures:
        stride = max(1, max(picture.shape[:2]) // _WIDEST_PX)
        thinned.append(picture[::stride, ::stride].reshape(-1, 3))
        count += 1
    stats = of_rows(np.concatenate(thinned))
    scaled = {name: (value / 255.0).reshape(3, 1, 1) for name, value in stats.items() if name != "count"}
    return scaled | {"count": np.array([count], dtype=np.float64)}


def together(parts: Iterable[Stats]) -> dict[str, Array]:
    """Of all episodes, from each one's."""
    listed = list(parts)
    weights = np.concatenate([part["count"] for part in listed])
    total = weights.sum()

    def mean_of(values: list[Array]) -> Array:
        return np.tensordot(weights / total, np.stack(values), axes=1)

    mean = mean_of([part["mean"] for part in listed])
    variance = mean_of([part["std"] ** 2 + (part["mean"] - mean) ** 2 for part in listed])
    return {
        "min": np.stack([part["min"] for part in listed]).min(0),
        "max": np.stack([part["max"] for part in listed]).max(0),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": np.array([total]),
        **{name: mean_of([part[name] for part in listed]) for name in _QUANTILES},
    }
