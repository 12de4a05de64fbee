"""How sure a share of successes is: Wilson's interval, which stays inside 0 to 1 and is honest for few trials."""

import math

Z_95 = 1.959964


def wilson(succeeded: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """(low, high) of the share of which `succeeded` out of `trials` is a sample; 95 % unless said otherwise."""
    if not 0 <= succeeded <= trials:
        raise ValueError(f"{succeeded} of {trials} is no count of successes")
    if trials == 0:
        return 0.0, 1.0
    share, spread = succeeded / trials, z * z / trials
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / trials + spread / (4 * trials))
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))  # rounding must not push the share out
