"""Reads the model repository again and puts it in the place of what is served: all of it or nothing.

Everything is proven before anything changes: manifests and tokenizers load, the guard can check every policy, the default is
still there, and Triton answers for each model that is new. A refusal leaves the process as it was.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from control_plane.policies.catalogue import Catalogue, ServedPolicy, load_catalogue
from control_plane.policies.tensors import WrongAnswer, action_of, canary_call
from control_plane.triton import Triton, TritonError
from export.contract.manifest import ManifestError

_CANARY_S = 5.0


class BundlesRefused(Exception):  # noqa: N818 -- reads as what happened
    """The repository cannot be served as it is now; the text says which folder and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload:
    """`guard` prepares the guards of a catalogue and gives what puts them in force; it raises BundlesRefused."""

    repository: Path
    catalogue: Catalogue
    triton: Triton
    guard: Callable[[Catalogue], Callable[[], None]]

    async def run(self) -> None:
        """Raises BundlesRefused."""
        try:
            fresh = await asyncio.to_thread(load_catalogue, self.repository, default=self.catalogue.default)
        except (ManifestError, OSError) as error:
            raise BundlesRefused(str(error)) from None
        put_in_force = self.guard(fresh)
        for policy in fresh.everything():
            if not self._is_known(policy):
                await self._prove(policy)
        put_in_force()
        self.catalogue.adopt(fresh)

    def _is_known(self, policy: ServedPolicy) -> bool:
        found = self.catalogue.find(policy.name, policy.version)
        return found is not None and found.model == policy.model and found.manifest == policy.manifest

    async def _prove(self, policy: ServedPolicy) -> None:
        try:
            action_of(policy.manifest, await self.triton.infer(canary_call(policy, timeout_s=_CANARY_S)))
        except TritonError as error:
            raise BundlesRefused(
                f"{policy.model}: Triton does not answer for it ({error.fault.value}); has it been restarted?"
            ) from None
        except WrongAnswer as error:
            raise BundlesRefused(f"{policy.model}: {error}") from None
