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
_VALUES = 256  # that a pixel can have
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
    """Each picture (H, W, 3); values have shape (3, 1, 1), in 0..1: what `of_rows` says of all pixels, found by counting."""
    histogram, count = np.zeros((3, _VALUES), dtype=np.int64), 0
    for picture in pictures:
        stride = max(1, max(picture.shape[:2]) // _WIDEST_PX)
        thinned = picture[::stride, ::stride]
        histogram += [np.bincount(thinned[:, :, channel].ravel(), minlength=_VALUES) for channel in range(3)]
        count += 1
    channels = [_of_histogram(channel) for channel in histogram]
    scaled = {name: np.array([of[name] for of in channels]).reshape(3, 1, 1) / 255.0 for name in channels[0]}
    return scaled | {"count": np.array([count], dtype=np.float64)}


def _of_histogram(histogram: NDArray[np.int64]) -> dict[str, float]:
    values, up_to = np.arange(_VALUES), np.cumsum(histogram)
    mean = float(histogram @ values / up_to[-1])
    places = np.array(list(_QUANTILES.values())) * (up_to[-1] - 1)
    below, above = (np.searchsorted(up_to, around, side="right") for around in (np.floor(places), np.ceil(places)))
    return {
        "min": float(np.flatnonzero(histogram)[0]),
        "max": float(np.flatnonzero(histogram)[-1]),
        "mean": mean,
        "std": float(np.sqrt(histogram @ (values - mean) ** 2 / up_to[-1])),
        **dict(zip(_QUANTILES, (below + (above - below) * (places % 1.0)).tolist(), strict=True)),
    }


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
