"""Several Tritons behind one: each call goes to the one with the fewest in flight that is neither gone, ejected nor draining.

A call that has certainly reached no model is asked once more, of another replica, in what is left of its time; in doubt it fails.
A full queue is not dodged: that would only spread the overload. Who is ejected is `policies.outliers`' judgement, who drains an
operator's; this knows no policy and no store.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from time import monotonic

from msgspec.structs import replace

from control_plane.breaker import Breaker
from control_plane.triton import Tensor, Triton, TritonCall, TritonError, TritonFault

_REST_S = 1.0  # a replica that was gone, or lacked a model, is left alone for this long
_GONE = frozenset({TritonFault.UNAVAILABLE, TritonFault.NOT_LOADED})

Served = tuple[str, int]  # Triton's model and version


class ReplicaState(StrEnum):
    """Where one replica stands in this process's eyes (a label of `vla_replica_processes`)."""

    SERVING = "serving"
    AWAY = "away"  # its breaker is open: nobody answers there
    EJECTED = "ejected"  # it answers, but wrongly or far slower than the others
    DRAINING = "draining"  # an operator has taken it out


@dataclass(slots=True, kw_only=True)
class Replica:
    """One Triton with what this process knows about it."""

    address: str
    triton: Triton
    breaker: Breaker
    in_flight: int = 0
    calls: int = 0
    is_ejected: bool = False
    is_draining: bool = False
    is_suspect: bool = False  # success with nothing inside: to be looked at before it is asked much more
    lacks_until_s: dict[Served, float] = field(default_factory=dict)
    good_at_s: dict[Served, float] = field(default_factory=dict)

    @property
    def state(self) -> ReplicaState:
        """What an operator is told."""
        if self.is_draining:
            return ReplicaState.DRAINING
        if self.is_ejected:
            return ReplicaState.EJECTED
        return ReplicaState.AWAY if self.breaker.is_open else ReplicaState.SERVING


class Replicas:
    """A `Triton` made of others. `retried` is told the address of a replica whose call went elsewhere."""

    def __init__(
        self,
        tritons: Mapping[str, Triton],
        *,
        clock: Callable[[], float] = monotonic,
        retried: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.all: Sequence[Replica] = [
            Replica(address=address, triton=triton, breaker=Breaker(pause_s=_REST_S, clock=clock))
            for address, triton in tritons.items()
        ]
        self.suspicion = asyncio.Event()  # some replica should be looked at before the next round
        self._clock = clock
        self._retried = retried

    @property
    def usable(self) -> int:
        """How many take work now; never less than one, so that whoever shares the work out can go on."""
        if len(self.all) == 1:
            return 1
        return max(1, sum(replica.state is ReplicaState.SERVING for replica in self.all))

    def drain(self, addresses: Collection[str]) -> None:
        """These get nothing new, all others do. What is in flight there goes on."""
        for replica in self.all:
            replica.is_draining = replica.address in addresses

    async def infer(self, call: TritonCall) -> Mapping[str, Tensor]:
        """From the replica with the fewest in flight. Raises TritonError.

        A lost one is made up for once. One that lacks the model has lost nothing: the next is asked, while there is one and time.
        """
        tried: list[Replica] = []
        ends_s, losses = self._clock() + call.timeout_s, 0
        replica = self._choose(call, tried)
        if replica is None:
            raise TritonError(TritonFault.UNAVAILABLE, "every replica is draining", was_dispatched=False)
        while True:
            try:
                return await self.ask(replica, call)
            except TritonError as error:
                tried.append(replica)
                losses += error.fault is not TritonFault.NOT_LOADED
                left_s, following = ends_s - self._clock(), self._choose(call, tried)
                if error.was_dispatched or error.fault not in _GONE or losses > 1 or left_s <= 0 or following is None:
                    raise
                self._retried(replica.address)
            replica, call = following, replace(call, timeout_s=left_s)

    async def ask(self, replica: Replica, call: TritonCall) -> Mapping[str, Tensor]:
        """From this one, whatever its state. Raises TritonError."""
        replica.in_flight += 1
        replica.calls += 1
        try:
            outputs = await replica.triton.infer(call)
        except TritonError as error:
            self._note(replica, call, error.fault)
            raise
        finally:
            replica.in_flight -= 1
        if replica.breaker.is_open:
            replica.breaker.succeeded()
        if is_whole(call, outputs):
            replica.good_at_s[call.model, call.version] = self._clock()
        else:
            replica.is_suspect = True
            if not replica.is_ejected:
                self.suspicion.set()
        return outputs

    def _note(self, replica: Replica, call: TritonCall, fault: TritonFault) -> None:
        if fault is TritonFault.UNAVAILABLE:
            replica.breaker.failed()
        elif fault is TritonFault.NOT_LOADED:
            replica.lacks_until_s[call.model, call.version] = self._clock() + _REST_S
        elif replica.breaker.is_open and fault is not TritonFault.TOO_LATE:
            replica.breaker.succeeded()  # a refusal is an answer too

    def _choose(self, call: TritonCall, apart_from: Collection[Replica]) -> Replica | None:
        """The best of those that take work; one whose breaker is open when it is due for a try, or when there is no other."""
        there = [replica for replica in self.all if not replica.is_draining and replica not in apart_from]
        if len(there) <= 1:
            return there[0] if there else None
        there.sort(key=lambda replica: (replica.in_flight, replica.calls))
        now_s, served = self._clock(), (call.model, call.version)
        for replica in there:
            is_fit = not replica.is_ejected and replica.lacks_until_s.get(served, 0.0) <= now_s
            if is_fit and replica.breaker.may_try():
                return replica
        return min(
            there,
            key=lambda replica: (replica.breaker.is_open, replica.lacks_until_s.get(served, 0.0) > now_s, replica.in_flight),
            default=None,
        )

    async def close(self) -> None:
        """Closes every one of them."""
        for replica in self.all:
            await replica.triton.close()


def is_whole(call: TritonCall, outputs: Mapping[str, Tensor]) -> bool:
    """Whether something is in every output that was asked for; a broken backend can answer success with empty tensors."""
    return all(name in outputs and outputs[name].data for name in call.outputs)
