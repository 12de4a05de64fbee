"""Decides which steps of a float32 graph work in the lower precision; everything else stays in float32.

Products are lowered, except those that make angles or a time embedding, the last one before an output (the action head, the
logits), and what the caller names or the calibration saw overflow. A pointwise step joins the float32 island beside it: after a
normalisation, a rotation or a head, and before a softmax. Moving steps take the type that is stored. It changes no graph;
`rewrite` does.
"""

from collections import defaultdict
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase

import onnx_ir as ir

from export.precision.steps import ANGLES, SIZES, Kind, Step


class _Origin(Enum):
    """Where a value's exactness comes from: a constant has none of its own."""

    CONSTANT = 0
    EXACT = 1
    LOWERED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What stays float32 beside the rules: products whose node or weight matches a pattern, and values that would overflow.

    `carried` are patterns of outputs that are no answers but state for the next run: keys and values need no exact last product.
    """

    keep: tuple[str, ...] = ()
    carried: tuple[str, ...] = ()
    overflowing: frozenset[str] = frozenset()


def lowered_steps(steps: tuple[Step, ...], wishes: Wishes) -> frozenset[Step]:
    """The steps to be lowered; all others work in float32."""
    return _Assignment(steps, wishes).lowered()


def _matches(name: str | None, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name or "", pattern) for pattern in patterns)


class _Assignment:
    """The flow of one graph, while it is being decided. `exact` only grows, so it ends."""

    def __init__(self, steps: tuple[Step, ...], wishes: Wishes) -> None:
        self.steps, self.wishes = steps, wishes
        self.readers: dict[ir.Value, list[Step]] = defaultdict(list)
        self.maker: dict[ir.Value, Step] = {}
        for step in steps:
            for value in step.inputs:
                self.readers[value].append(step)
            for value in step.outputs:
                self.maker[value] = step
        self.exact = {step for step in steps if step.kind is Kind.EXACT or self._overflows(step)}
        self.exact |= self._heads() | self._angles() | self._embeds_time() | self._named()
        self.origins: dict[ir.Value, _Origin] = {}

    def lowered(self) -> frozenset[Step]:
        size = -1
        while size != len(self.exact):
            size = len(self.exact)
            self._follow()
            self._join_islands()
        self._place_moves()
        return frozenset(step for step in self.steps if step not in self.exact and (step.floats_in or step.floats_out))

    # What stays exact whatever surrounds it

    def _overflows(self, step: Step) -> bool:
        return any(value.name in self.wishes.overflowing for value in (*step.floats_in, *step.floats_out))

    def _named(self) -> set[Step]:
        return {
            step
            for step in self.steps
            if step.kind is Kind.PRODUCT and any(_matches(name, self.wishes.keep) for name in self._names(step))
        }

    def _names(self, step: Step) -> list[str]:
        """The node's own name and its weight's, also of a weight that is turned first."""
        names = [step.node.name or "" if step.node else ""]
        for value in step.inputs:
            while (maker := self.maker.get(value)) is not None and maker.kind is Kind.MOVES and len(maker.floats_in) == 1:
                value = maker.floats_in[0]
            if value.is_initializer():
                names.append(value.name or "")
        return names

    def _heads(self) -> set[Step]:
        """Products whose result reaches an output of the graph with no other product between."""
        found: set[Step] = set()
        seen: set[Step] = set()
        answers = [value for value in self.steps[-1].inputs if not _matches(value.name, self.wishes.carried)]
        waiting = [self.maker[value] for value in answers if value in self.maker]
        while waiting:
            step = waiting.pop()
            if step in seen or step.operator in SIZES:
                continue
            seen.add(step)
            if step.kind is Kind.PRODUCT:
                found.add(step)
                continue
            waiting.extend(self.maker[value] for value in step.inputs if value in self.maker)
        return found

    def _angles(self) -> set[Step]:
        """Everything that serves a sine or cosine only: a position of 300 has no neighbour in bfloat16."""
        found = {step for step in self.steps if step.operator in ANGLES}
        for step in reversed(self.steps):
            readers = [reader for value in step.floats_out for reader in self.readers[value]]
            if readers and step.kind is not Kind.SEAM and all(reader in found for reader in readers):
                found.add(step)
        return found

    def _embeds_time(self) -> set[Step]:
        """Products of a weight with sines and cosines alone."""
        waves: set[ir.Value] = set()
        found: set[Step] = set()
        for step in self.steps:
            made = [value for value in step.floats_in if not self._is_constant(value)]
            if step.operator in ANGLES or (made and step.kind in {Kind.POINTWISE, Kind.MOVES} and waves.issuperset(made)):
                waves.update(step.floats_out)
            elif step.kind is Kind.PRODUCT and made and len(made) < len(step.floats_in) and waves.issuperset(made):
                found.add(step)
        return found

    def _is_constant(self, value: ir.Value) -> bool:
        maker = self.maker.get(value)
        if maker is None:
            return value.is_initializer()
        return maker.kind is Kind.MOVES and all(self._is_constant(one) for one in maker.floats_in)

    # What depends on its neighbours

    def _follow(self) -> None:
        """Forward: where each value's exactness comes from."""
        for step in self.steps:
            if step.kind is Kind.SEAM and self._is_lowered_seam(step):
                origin = _Origin.LOWERED
            elif step.kind is Kind.SEAM:
                origin = _Origin.EXACT
            else:
                origin = self._origin_of_result(step)
            self.origins.update((value, origin) for value in step.floats_out)

    def _origin_of_result(self, step: Step) -> _Origin:
        if step.operator in {"Constant", "ConstantOfShape"}:
            return _Origin.CONSTANT
        found = {self._origin(value) for value in step.floats_in} - {_Origin.CONSTANT}
        if step in self.exact:
            return _Origin.EXACT
        if step.kind is Kind.PRODUCT:
            return _Origin.LOWERED
        if not found:
            return _Origin.CONSTANT
        return _Origin.LOWERED if _Origin.LOWERED in found else _Origin.EXACT

    def _origin(self, value: ir.Value) -> _Origin:
        known = self.origins.get(value)
        if known is not None:
            return known
        return _Origin.CONSTANT if value.is_initializer() else _Origin.EXACT

    def _is_lowered_seam(self, step: Step) -> bool:
        """A buffer that is carried (a KV cache) is stored low if a product reads it; a sum that is carried stays exact."""
        makers = [self.maker.get(value) for value in step.floats_in]
        if step in self.exact or any(maker in self.exact and maker.kind is not Kind.MOVES for maker in makers if maker):
            return False
        return not self._serves_exact_only(step, set())

    def _join_islands(self) -> None:
        for step in self.steps:
            if step.kind is not Kind.POINTWISE or step in self.exact:
                continue
            origins = {self._origin(value) for value in step.floats_in}
            if _Origin.EXACT in origins or origins == {_Origin.CONSTANT}:
                self.exact.add(step)
        for step in reversed(self.steps):
            if step.kind is Kind.POINTWISE and step not in self.exact and self._serves_one_exact_step(step):
                self.exact.add(step)

    def _serves_one_exact_step(self, step: Step) -> bool:
        """Between a product and a softmax, say: exact costs nothing there. The residual stream, read twice, stays low."""
        readers = [reader for value in step.floats_out for reader in self.readers[value]]
        return len(readers) == 1 and self._serves_exact_only(step, set())

    def _serves_exact_only(self, step: Step, seen: set[Step]) -> bool:
        seen.add(step)
        readers = [reader for value in step.floats_out for reader in self.readers[value] if reader not in seen]
        return all(self._wants_exact(reader, seen) for reader in readers)

    def _wants_exact(self, step: Step, seen: set[Step]) -> bool:
        if step in self.exact:
            return True
        if step.kind in {Kind.PRODUCT, Kind.POINTWISE}:
            return False
        if _Origin.LOWERED in {self.origins.get(value) for value in step.floats_out}:
            return False
        return self._serves_exact_only(step, seen)

    # What only moves numbers

    def _place_moves(self) -> None:
        """A mover of lowered values is low; of exact ones, if all readers are low; of constants, if any reader is."""
        self.exact |= {step for step in self.steps if step.kind is Kind.SEAM and not self._is_lowered_seam(step)}
        for step in reversed(self.steps):
            if step.kind is not Kind.MOVES or not step.floats_out:
                continue
            origin = self.origins[step.floats_out[0]]
            readers = [reader for value in step.floats_out for reader in self.readers[value]]
            low = [reader not in self.exact for reader in readers]
            if (origin is _Origin.EXACT and not all(low)) or (origin is _Origin.CONSTANT and not any(low)):
                self.exact.add(step)
