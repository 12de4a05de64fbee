"""Draws an episode for people: an animation and a sheet of moments, with action, safety score and latency beside each picture.

It knows moments of an episode and fonts; it asks nobody.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tabletop.contract import ACTION
from tabletop.episode import TICK_S, Moment, Outcome
from tabletop.world import FRONT, WRIST

_PICTURE_PX, _PANEL_PX, _LINE_PX, _MARGIN_PX = 320, 300, 17, 12
_PAPER, _INK, _FAINT, _GOOD, _BAD = (250, 250, 248), (30, 34, 40), (130, 136, 145), (32, 130, 70), (190, 50, 40)
_BAR, _BAR_PX = (60, 120, 190), 90
_SHEET_MOMENTS, _SHEET_COLUMNS = 9, 3
_LAST_FRAME_MS = 1500


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """An episode that was watched."""

    moments: Sequence[Moment]
    outcome: Outcome

    def animation(self, path: Path) -> None:
        """Writes a GIF at the robot's own speed."""
        frames = [Image.fromarray(self._frame(moment)) for moment in self.moments]
        palette = Image.fromarray(np.concatenate([np.asarray(frame)[::2, ::2] for frame in frames])).quantize(
            255,
            method=Image.Quantize.MAXCOVERAGE,  # a small green cube keeps its green; the median cut made it grey
        )
        few = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
        durations = [round(1e3 * TICK_S)] * (len(few) - 1) + [_LAST_FRAME_MS]
        few[0].save(path, save_all=True, append_images=few[1:], duration=durations, loop=0, optimize=False)

    def sheet(self, path: Path) -> None:
        """Writes a PNG with moments spread over the episode."""
        count = min(_SHEET_MOMENTS, len(self.moments))
        picked = np.linspace(0, len(self.moments) - 1, count).round().astype(int)
        frames = [self._frame(self.moments[int(index)]) for index in picked]
        blank = np.full_like(frames[0], _PAPER)
        frames += [blank] * (-len(frames) % _SHEET_COLUMNS)
        rows = [np.concatenate(frames[start : start + _SHEET_COLUMNS], axis=1) for start in range(0, len(frames), _SHEET_COLUMNS)]
        Image.fromarray(np.concatenate(rows)).save(path)

    def _frame(self, moment: Moment) -> np.ndarray:
        sheet = Image.new("RGB", (_PICTURE_PX + _PANEL_PX, _PICTURE_PX), _PAPER)
        sheet.paste(Image.fromarray(moment.observation[FRONT]).resize((_PICTURE_PX, _PICTURE_PX)), (0, 0))
        if WRIST in moment.observation:
            side = _PICTURE_PX // 3
            sheet.paste(Image.fromarray(moment.observation[WRIST]).resize((side, side)), (_PICTURE_PX - side, _PICTURE_PX - side))
        pen = _Pen(sheet, left=_PICTURE_PX + _MARGIN_PX)
        pen.line(f"“{self.outcome.instruction}”", _INK)
        pen.line(f"{moment.step * TICK_S:4.1f} s   step {moment.step}", _FAINT)
        _write_action(pen, moment)
        _write_answer(pen, moment)
        if moment is self.moments[-1]:
            pen.line(verdict_of(self.outcome), _GOOD if self.outcome.is_success else _BAD)
        return np.asarray(sheet)


def verdict_of(outcome: Outcome) -> str:
    """The result in a few words."""
    if outcome.is_success:
        return f"done in {outcome.seconds:.1f} s" + (" (and another thing too)" if outcome.is_wrong else "")
    return outcome.lost or f"not done within {outcome.seconds:.0f} s"


class _Pen:
    """Writes lines under each other."""

    def __init__(self, sheet: Image.Image, left: int) -> None:
        self.draw = ImageDraw.Draw(sheet)
        self.left, self.top = left, _MARGIN_PX
        self._font = ImageFont.load_default(size=13)

    def line(self, text: str, ink: tuple[int, int, int]) -> None:
        """One line, wrapped where it is too long."""
        width = _PANEL_PX - 2 * _MARGIN_PX
        while text:
            end = len(text)
            while end > 1 and self.draw.textlength(text[:end], font=self._font) > width:
                end = text.rfind(" ", 0, end) if " " in text[:end] else end - 1
            self.draw.text((self.left, self.top), text[:end], fill=ink, font=self._font)
            self.top += _LINE_PX
            text = text[end:].strip()

    def bar(self, name: str, share: float, value: str) -> None:
        """A name, a bar from −1 to 1, and the number."""
        middle = self.left + 62 + _BAR_PX // 2
        self.draw.text((self.left, self.top), name, fill=_FAINT, font=self._font)
        reach = round(max(-1.0, min(1.0, share)) * _BAR_PX / 2)
        self.draw.rectangle([middle - _BAR_PX // 2, self.top + 4, middle + _BAR_PX // 2, self.top + 12], outline=(220, 222, 226))
        self.draw.rectangle([min(middle, middle + reach), self.top + 4, max(middle, middle + reach), self.top + 12], fill=_BAR)
        self.draw.text((middle + _BAR_PX // 2 + 10, self.top), value, fill=_INK, font=self._font)
        self.top += _LINE_PX


def _write_action(pen: _Pen, moment: Moment) -> None:
    if moment.action is None:
        pen.line("holds" + (f": {moment.error}" if moment.error else ""), _BAD)
        return
    for name, unit, value in zip(ACTION.names, ACTION.units, moment.action.tolist(), strict=True):
        full = {"m": 0.02, "rad": 0.1}.get(unit, 1.0)
        shown = f"{1e3 * value:+.1f} mm" if unit == "m" else f"{value:+.3f} rad" if unit == "rad" else f"{value:.2f}"
        pen.bar(name, value / full, shown)


def _write_answer(pen: _Pen, moment: Moment) -> None:
    answer = moment.answer
    if answer is None:
        return
    verdict, timings = answer.verdict, answer.timings
    pen.line(f"guard: {verdict.decision}, score {verdict.overall_score:.2f}", _GOOD if verdict.decision == "pass" else _BAD)
    if verdict.limiting_rule:
        pen.line(f"nearest limit: {verdict.limiting_rule}", _FAINT)
    pen.line(f"answer in {timings.round_trip_ms:.0f} ms (service {timings.total_ms:.1f} ms)", _INK)
