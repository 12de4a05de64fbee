"""Step 7: the tensors go to Triton with what is left of the deadline, and a motion comes back or one of our errors.

Queue full, too late and gone are three different answers; what the model itself raised is never shown. The motion's shape and
type are held against the manifest, because a broken backend can answer success with nothing inside.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from prometheus_client import Counter
from structlog.typing import FilteringBoundLogger

from control_plane.errors import ApiError
from control_plane.policies.tensors import WrongAnswer, action_of, entropy_of
from control_plane.triton import Triton, TritonCall, TritonError, TritonFault
from export.contract.manifest import Manifest
from safety.context import TokenEvidence

WRONG_ANSWER = "wrong_answer"

# What the caller is told, and when to come back.
_ANSWERS: Mapping[TritonFault, tuple[str, int | None]] = MappingProxyType(
    {
        TritonFault.QUEUE_FULL: ("overloaded", 250),
        TritonFault.TOO_LATE: ("deadline_exceeded", None),
        TritonFault.UNAVAILABLE: ("policy_unavailable", 1000),
        TritonFault.NOT_LOADED: ("policy_unavailable", 1000),
        TritonFault.BAD_REQUEST: ("internal_error", None),
        TritonFault.FAILED: ("policy_failed", None),
    }
)


class Motion(Struct, frozen=True, kw_only=True, eq=False):
    """`actions` (horizon, dimensions) float32 in the manifest's units; `tokens` how sure a policy that speaks in tokens was."""

    actions: NDArray[np.float32]
    tokens: TokenEvidence | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """The way to the policies. `faults` is `vla_triton_errors`."""

    triton: Triton
    faults: Counter
    log: FilteringBoundLogger

    async def run(self, call: TritonCall, manifest: Manifest) -> Motion:
        """What the policy wants. Raises ApiError."""
        try:
            outputs = await self.triton.infer(call)
            return Motion(actions=action_of(manifest, outputs), tokens=entropy_of(manifest, outputs))
        except TritonError as error:
            self._note(call, error.fault.value, str(error))
            code, retry_after_ms = _ANSWERS[error.fault]
            raise ApiError(code, retry_after_ms=retry_after_ms) from None
        except WrongAnswer as error:
            self._note(call, WRONG_ANSWER, str(error))
            raise ApiError("policy_failed") from None

    def _note(self, call: TritonCall, kind: str, details: str) -> None:
        self.faults.labels(kind).inc()
        self.log.warning("triton_failed", request_id=call.request_id, policy=call.model, kind=kind, details=details[:2000])
