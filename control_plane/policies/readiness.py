"""Whether each policy answers right now: a canary inference, remembered for a second, never two at once.

Asking Triton whether it is ready is not enough: its health stays green over a dead Python process, and a broken one answers
success with nothing inside. Called by `/ready` and `/v1/models`; counts and bills nothing.
"""

import asyncio
from collections.abc import Mapping
from enum import StrEnum
from time import monotonic

from control_plane.policies.catalogue import ServedPolicy
from control_plane.policies.offer import Offer
from control_plane.policies.tensors import WrongAnswer, action_of, canary_call
from control_plane.triton import Triton, TritonError


class PolicyState(StrEnum):
    """What a policy's canary came back with."""

    READY = "ready"
    UNAVAILABLE = "unavailable"


class Canary:
    """Sends each policy one observation of zeros and looks at the shape of what comes back."""

    def __init__(self, *, triton: Triton, offer: Offer, timeout_s: float = 2.0, fresh_s: float = 1.0) -> None:
        self._triton = triton
        self._offer = offer
        self._timeout_s = timeout_s
        self._fresh_s = fresh_s
        self._lock = asyncio.Lock()
        self._states: Mapping[str, PolicyState] = {}
        self._asked_at = -fresh_s

    async def states(self) -> Mapping[str, PolicyState]:
        """The state of every policy version that is switched on, by its name in Triton, at most `fresh_s` old. Never raises."""
        async with self._lock:
            policies = self._offer.switched_on()
            if monotonic() - self._asked_at >= self._fresh_s or {policy.model for policy in policies} != self._states.keys():
                found = await asyncio.gather(*(self._state(policy) for policy in policies))
                self._states = {policy.model: state for policy, state in zip(policies, found, strict=True)}
                self._asked_at = monotonic()
            return self._states

    async def _state(self, policy: ServedPolicy) -> PolicyState:
        try:
            action_of(policy.manifest, await self._triton.infer(canary_call(policy, timeout_s=self._timeout_s)))
        except (TritonError, WrongAnswer):
            return PolicyState.UNAVAILABLE
        return PolicyState.READY
