"""Several Tritons behind one: each call goes to the one with the fewest in flight, and moves on when that one is gone.

An inference changes nothing at Triton, so one that met a dead replica may be asked again elsewhere in what is left of its time.
A full queue is not dodged: that would only spread the overload. Stands behind the `Triton` seam; knows no address.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic

from control_plane.triton import Tensor, Triton, TritonCall, TritonError, TritonFault

_REST_S = 1.0  # a replica that was gone is asked last for this long
_GONE = frozenset({TritonFault.UNAVAILABLE, TritonFault.NOT_LOADED})


@dataclass(slots=True)
class _Replica:
    triton: Triton
    in_flight: int = 0
    rests_until_s: float = 0.0


class Replicas:
    """A `Triton` made of others."""

    def __init__(self, tritons: Sequence[Triton], *, clock: Callable[[], float] = monotonic) -> None:
        self._replicas = [_Replica(triton) for triton in tritons]
        self._clock = clock

    async def infer(self, call: TritonCall) -> Mapping[str, Tensor]:
        """From the first replica that is there. Raises what the last one raised."""
        ends_s = self._clock() + call.timeout_s
        *first, last = self._in_order()
        for replica in first:
            try:
                return await self._ask(replica, call)
            except TritonError as error:
                if error.fault not in _GONE or self._clock() >= ends_s:
                    raise
            call = replace(call, timeout_s=ends_s - self._clock())
        return await self._ask(last, call)

    def _in_order(self) -> list[_Replica]:
        now = self._clock()
        return sorted(self._replicas, key=lambda replica: (replica.rests_until_s > now, replica.in_flight))

    async def _ask(self, replica: _Replica, call: TritonCall) -> Mapping[str, Tensor]:
        replica.in_flight += 1
        try:
            return await replica.triton.infer(call)
        except TritonError as error:
            if error.fault in _GONE:
                replica.rests_until_s = self._clock() + _REST_S
            raise
        finally:
            replica.in_flight -= 1

    async def close(self) -> None:
        """Closes every one of them."""
        for replica in self._replicas:
            await replica.triton.close()
