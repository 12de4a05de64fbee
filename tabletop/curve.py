"""The figure that says why latency matters: success and time needed against added delay, per way of asking.

It knows numbers and matplotlib, nothing of how they came about.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tabletop.series import Row

# The third and fourth line may lie on the first and second: thin and dotted, so that both are seen.
_LOOKS = (("#1f6fb2", "-", 3.0), ("#c8501e", "-", 3.0), ("#101820", ":", 1.5), ("#7a2c00", ":", 1.5))


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One delay of one line."""

    delay_ms: int
    row: Row


def draw(lines: Mapping[str, Sequence[Point]], title: str, path: Path) -> None:
    """Writes the PNG."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, (success, seconds) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for (name, points), (colour, style, width) in zip(lines.items(), _LOOKS, strict=False):
        delays = [point.delay_ms for point in points]
        shares = [100 * point.row.succeeded / max(1, point.row.episodes) for point in points]
        low = [max(0.0, share - 100 * point.row.low) for share, point in zip(shares, points, strict=True)]
        high = [max(0.0, 100 * point.row.high - share) for share, point in zip(shares, points, strict=True)]
        success.errorbar(delays, shares, yerr=[low, high], label=name, color=colour, ls=style, lw=width, marker="o", capsize=3)
        timed = [(point.delay_ms, point.row.seconds) for point in points if point.row.seconds is not None]
        seconds.plot(
            [delay for delay, _ in timed], [value for _, value in timed], label=name, color=colour, ls=style, lw=width, marker="o"
        )
    success.set(xlabel="added delay of every answer (ms)", ylabel="episodes that succeeded (%)", ylim=(-3, 103))
    seconds.set(xlabel="added delay of every answer (ms)", ylabel="time to success (s of robot time, mean)")
    seconds.set_ylim(bottom=0)
    for axes in (success, seconds):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8, loc="best")
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def draw_losses(curve: Sequence[Mapping[str, float]], path: Path) -> None:
    """The parts of a training run's loss over its steps, as a PNG."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for name in [name for name in curve[0] if name not in {"step", "minutes"}]:
        axes.plot([row["step"] for row in curve], [row[name] for row in curve], label=name)
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
