"""How much a new chunk disagrees with the part of the previous one that was not executed yet (catalogue E2, "STAC-single").

One formula for the rule and for its calibration, so that a threshold means what it was fitted on. Knows neither.
"""

import numpy as np
from numpy.typing import NDArray


def disagreement(
    old: NDArray[np.floating], new: NDArray[np.floating], executed_index: int, scale: NDArray[np.float64]
) -> float | None:
    """Mean over the overlap of ‖old[executed_index + 1:] − new[:n]‖ in units of `scale` (D,). None: nothing overlaps.

    The new chunk's first step stands for the moment after the last executed one.
    """
    count = min(len(old) - executed_index - 1, len(new))
    if count < 1:
        return None
    start = executed_index + 1
    apart = (old[start : start + count].astype(np.float64) - new[:count].astype(np.float64)) / scale
    return float(np.sqrt(np.vecdot(apart, apart)).mean())
