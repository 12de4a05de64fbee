"""What of an answered request is captured, for customers whose data policy allows pictures; called after the journal, before the
answer leaves. Builds a value from references: no encoded picture is copied or decoded. Knows no file and no store.
"""

import math

import numpy as np

from control_plane.capture.sample import Kind, Sample, Shot, Terms, Words
from control_plane.inference.account import Account
from control_plane.inference.observation import Observation, Picture
from control_plane.sampling import Rules
from export.contract.manifest import Manifest
from safety.context import TokenEvidence
from safety.verdict import Decision


def sample_of(rules: Rules, account: Account, observation: Observation, tokens: TokenEvidence | None) -> Sample | None:
    """The sample, or None where no rule wants it."""
    verdict, principal, trace = account.judged(), account.principal, account.trace
    session = trace.request_id.bytes if observation.session_id is None else observation.session_id.encode()
    is_picked, is_rejected = rules.picks(session), verdict.decision is Decision.REJECT
    entropy = _entropy(tokens)
    reasons = rules.reasons(is_picked=is_picked, is_rejected=is_rejected, score=verdict.overall_score, entropy=entropy)
    if not reasons and not rules.feedback:
        return None
    terms, manifest = principal.data, observation.policy.manifest
    raw = verdict.raw if verdict.is_modified else None
    return Sample(
        request_id=trace.request_id,
        customer_id=principal.customer_id,
        terms=Terms(policy=terms.policy.value, version=terms.version, consent_id=terms.consent_id, keep_days=terms.keep_days),
        model=manifest.policy,
        model_version=manifest.version,
        robot_type=observation.robot_type,
        words=_words(manifest),
        instruction=observation.instruction,
        shots=tuple(map(_shot, observation.pictures)),
        is_whole=is_picked and observation.session_id is not None,
        kept_because=reasons,
        state=None if observation.state is None else observation.state.tolist(),
        action=None if is_rejected else verdict.actions.tolist(),
        raw_action=None if raw is None else raw.tolist(),
        decision=verdict.decision.value,
        safety_score=verdict.overall_score,
        limiting_rule=verdict.limiting_rule,
        entropy=entropy,
        unnorm_key=observation.unnorm_key,
        session_id=observation.session_id,
        seq=observation.seq,
        obs_age_ms=observation.obs_age_ms,
        is_test=principal.is_test,
    )


def _words(manifest: Manifest) -> Words:
    state = manifest.state
    return Words(
        action=tuple(manifest.action.names),
        action_kind=manifest.action.kind.value,
        state=() if state is None else tuple(state.names),
        control_hz=manifest.action.control_hz,
    )


def _shot(picture: Picture) -> Shot:
    data = picture.data
    if isinstance(data, bytes):
        return Shot(camera=picture.camera.name, kind=_kind(data), data=data)
    pixels = data if data.shape[-1] == 3 else np.moveaxis(data, 0, -1)
    if pixels.dtype != np.uint8:
        pixels = (255 * pixels).astype(np.uint8)  # from 0 to 1, or it had been refused; as `images` does it for the policy
    height, width = pixels.shape[:2]
    return Shot(camera=picture.camera.name, kind="rgb", data=pixels.tobytes(), shape=(int(height), int(width)))


def _kind(data: bytes) -> Kind:
    if data[:2] == b"\xff\xd8":
        return "jpg"
    return "png" if data[:4] == b"\x89PNG" else "webp"


def _entropy(tokens: TokenEvidence | None) -> float | None:
    """The mean over the action's tokens, as a share of what a policy that knows nothing would have."""
    if tokens is None or tokens.bin_count < 2 or not np.isfinite(tokens.entropy_nats).all():
        return None
    return max(float(np.mean(tokens.entropy_nats)), 0.0) / math.log(tokens.bin_count)
