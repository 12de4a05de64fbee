"""Which policy version answers a request of this customer: what is served here, narrowed by what operators have decided.

A policy that is off, restricted or unknown gets one and the same answer, so that nobody learns what exists. Fails closed: a
version that someone asked for, is pinned to or has been made the default is served or refused, never replaced by another. A value
holder, one per process; `follow.py` puts new decisions in. Pure otherwise: no store, no HTTP.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from control_plane.errors import ApiError
from control_plane.identity.principal import Principal
from control_plane.policies.catalogue import Catalogue, ServedPolicy
from control_plane.policies.standing import Standing

_VERSION_MARK = "@"
_DIGITS_MAX = 9


@dataclass(slots=True, kw_only=True)
class Offer:
    """`standing` None: nobody can say yet what operators have decided, so nothing is offered."""

    catalogue: Catalogue
    standing: Standing | None = None

    def choose(self, principal: Principal, asked: str | None, *, session_id: str | None = None) -> ServedPolicy:
        """The policy version for `asked` (`name`, `name@version`, or None). Raises unknown_model, policy_unavailable."""
        standing = self._known()
        name, wanted = _parsed(asked)
        if name is None:
            name = standing.default or self.catalogue.default
        if not standing.may_use(principal.customer_id, name) or name not in self.catalogue.versions:
            raise _unknown(asked)
        version = wanted or version_for(standing, principal.customer_id, name, session_id=session_id)
        found = self.catalogue.find(name, version)
        if found is not None and (name, found.version) not in standing.disabled:
            return found
        if wanted is not None:
            raise _unknown(asked)
        raise ApiError("policy_unavailable", "This version of the model is not served at present.", retry_after_ms=1000)

    def name_of(self, asked: str | None) -> str:
        """The policy that is meant, in whatever version, whether or not there is one."""
        if asked is None:
            return (self.standing and self.standing.default) or self.catalogue.default
        return asked.rpartition(_VERSION_MARK)[0] or asked

    def scope(self, principal: Principal, asked: str | None, *, session_id: str | None) -> str:
        """A name for what a session belongs to: no two versions share what a session remembers."""
        try:
            return self.choose(principal, asked, session_id=session_id).model
        except ApiError:
            return asked or self.catalogue.default

    def visible(self, principal: Principal) -> Iterator[ServedPolicy]:
        """Each policy that the customer may use, in the version that they get."""
        for name in self.catalogue.versions:
            try:
                yield self.choose(principal, name)
            except ApiError:
                continue

    def versions(self, name: str) -> tuple[int, ...]:
        """Those of a policy that can be asked for."""
        disabled = self._known().disabled
        return tuple(version for version in self.catalogue.versions[name] if (name, version) not in disabled)

    def switched_on(self) -> tuple[ServedPolicy, ...]:
        """All versions that are served to anybody: what an operator has switched off is nobody's, and need not answer."""
        standing, everything = self.standing, self.catalogue.everything()
        if standing is None:
            return everything
        return tuple(
            one for one in everything if standing.of(one.name).is_enabled and (one.name, one.version) not in standing.disabled
        )

    def _known(self) -> Standing:
        if self.standing is None:
            message = "It cannot be said at present which models this account may use."
            raise ApiError("store_unavailable", message, retry_after_ms=1000)
        return self.standing


def version_for(standing: Standing, customer_id: UUID, policy: str, *, session_id: str | None) -> int | None:  # noqa: ARG001 -- the seam
    """The version for a request that names none; None: the one in the policy's own folder.

    The one place that decides: a canary rollout will answer here by a hash of `session_id`, so that no robot flips in an episode.
    """
    return standing.pin(customer_id, policy) or standing.of(policy).default_version


def _parsed(asked: str | None) -> tuple[str | None, int | None]:
    if asked is None or _VERSION_MARK not in asked:
        return asked, None
    name, _, text = asked.rpartition(_VERSION_MARK)
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX and int(text) > 0):
        raise _unknown(asked)
    return name, int(text)


def _unknown(asked: str | None) -> ApiError:
    if asked is None:
        message = "There is no model for requests that name none; name one that GET /v1/models lists."
    else:
        message = f"There is no model '{asked}'; GET /v1/models lists them."
    return ApiError("unknown_model", message, param="model")
