"""The bytes of captured objects: a part is a tar with each frame's pictures, as they came, and one JSON beside them.

    0193….front.jpg  0193….json          (the shape that WebDataset reads)

The same frames give the same bytes, so that writing a part again changes nothing. Keys say policy, time to keep, day, hour,
customer (as a hash) and robot, so that retention and deletion are prefixes. Knows no store and no database.
"""

import hashlib
import io
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec
from PIL import Image

from control_plane.capture.sample import Sample, Shot, Words

ROOT = "raw/v1/"
MANIFEST = "manifest.json"
PART = ".tar"
MANIFEST_SCHEMA = 1


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """A frame's JSON. `pictures`: the file of each camera."""

    request_id: UUID
    at: datetime
    instruction: str
    state: list[float] | None
    action: list[list[float]] | None
    raw_action: list[list[float]] | None
    decision: str | None
    safety_score: float | None
    limiting_rule: str | None
    entropy: float | None
    model_version: int
    unnorm_key: str | None
    seq: int | None
    obs_age_ms: float | None
    data_policy_version: int
    consent_id: UUID | None
    kept_because: tuple[str, ...]
    pictures: dict[str, str]


class PartEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One part in a manifest."""

    key: str
    sha256: str
    size_bytes: int
    frames: int


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What the frames of a part are like, together."""

    data_policy_versions: list[int]
    consents: list[UUID]
    model_versions: list[int]
    cameras: list[str]
    decisions: dict[str, int]
    kept_because: dict[str, int]
    words: Words


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """An episode, written after its last part: without it the parts are an attempt that nobody reads."""

    schema: int = MANIFEST_SCHEMA
    episode: UUID
    org: str
    session_id: str | None
    data_policy: str
    keep_until: datetime
    model: str
    robot_type: str
    is_whole: bool
    frames: int
    first_at: datetime
    last_at: datetime
    summary: Summary
    parts: tuple[PartEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A part's bytes and what they hash to."""

    data: bytes
    sha256: bytes
    frames: int


def org_of(customer_id: UUID) -> str:
    """A customer in keys and manifests: says nothing to who does not have the id."""
    return hashlib.sha256(b"vlaapi org\0" + customer_id.bytes).hexdigest()[:20]


def prefix_of(sample: Sample, episode: UUID, first_at: datetime) -> str:
    """Where the objects of an episode are."""
    terms = f"policy={sample.terms.policy}/keep={sample.terms.keep_days}"
    when = f"dt={first_at:%Y-%m-%d}/hh={first_at:%H}"
    return f"{ROOT}{terms}/{when}/org={org_of(sample.customer_id)}/robot={sample.robot_type}/ep={episode.hex}/"


def frame_of(sample: Sample, at: datetime) -> Frame:
    """What stands beside the pictures."""
    return Frame(
        request_id=sample.request_id,
        at=at,
        instruction=sample.instruction,
        state=sample.state,
        action=sample.action,
        raw_action=sample.raw_action,
        decision=sample.decision,
        safety_score=sample.safety_score,
        limiting_rule=sample.limiting_rule,
        entropy=sample.entropy,
        model_version=sample.model_version,
        unnorm_key=sample.unnorm_key,
        seq=sample.seq,
        obs_age_ms=sample.obs_age_ms,
        data_policy_version=sample.terms.version,
        consent_id=sample.terms.consent_id,
        kept_because=sample.kept_because,
        pictures={shot.camera: _name(sample.request_id, shot) for shot in sample.shots},
    )


def pack(samples: Sequence[tuple[Sample, datetime]]) -> Packed:
    """The part of these frames. CPU work: run it in a thread."""
    files: list[tuple[str, bytes]] = []
    for sample, at in samples:
        files += [(_name(sample.request_id, shot), _bytes_of(shot)) for shot in sample.shots]
        files.append((f"{sample.request_id.hex}.json", msgspec.json.encode(frame_of(sample, at))))
    return packed(files, frames=len(samples))


def packed(files: Sequence[tuple[str, bytes]], *, frames: int) -> Packed:
    """A part of files as they are."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    data = out.getvalue()
    return Packed(data=data, sha256=hashlib.sha256(data).digest(), frames=frames)


def unpack(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The files of a part, by name."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        for info in tar:
            file = tar.extractfile(info)
            if file is not None:
                yield info.name, file.read()


def frames_in(data: bytes) -> Iterator[tuple[Frame, dict[str, bytes]]]:
    """Each frame of a part with its pictures by camera."""
    files = dict(unpack(data))
    for name, found in files.items():
        if name.endswith(".json"):
            frame = msgspec.json.decode(found, type=Frame)
            yield frame, {camera: files[file] for camera, file in frame.pictures.items()}


def without(data: bytes, request_id: UUID) -> Packed:
    """The part without that request's frame."""
    files = [(name, found) for name, found in unpack(data) if not name.startswith(request_id.hex)]
    return packed(files, frames=sum(name.endswith(".json") for name, _ in files))


def encoded(manifest: Manifest) -> bytes:
    """A manifest for people and machines."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2)


def manifest_in(data: bytes) -> Manifest:
    """Raises msgspec.DecodeError for what is none."""
    return msgspec.json.decode(data, type=Manifest)


def _name(request_id: UUID, shot: Shot) -> str:
    return f"{request_id.hex}.{shot.camera}.{'png' if shot.kind == 'rgb' else shot.kind}"


def _bytes_of(shot: Shot) -> bytes:
    if shot.kind != "rgb" or shot.shape is None:
        return shot.data
    height, width = shot.shape
    out = io.BytesIO()
    Image.frombytes("RGB", (width, height), shot.data).save(out, "PNG", compress_level=1)
    return out.getvalue()


def summary_of(frames: Sequence[Frame], words: Words) -> Summary:
    """What a manifest says of a part's frames together."""
    return Summary(
        data_policy_versions=sorted({frame.data_policy_version for frame in frames}),
        consents=sorted({frame.consent_id for frame in frames if frame.consent_id is not None}),
        model_versions=sorted({frame.model_version for frame in frames}),
        cameras=sorted({camera for frame in frames for camera in frame.pictures}),
        decisions=dict(Counter(frame.decision or "none" for frame in frames)),
        kept_because=dict(Counter(reason for frame in frames for reason in frame.kept_because)),
        words=words,
    )


def together(parts: Sequence[Summary]) -> Summary:
    """Of several parts of one episode."""
    decisions, reasons = Counter[str](), Counter[str]()
    for part in parts:
        decisions.update(part.decisions)
        reasons.update(part.kept_because)
    return Summary(
        data_policy_versions=sorted({version for part in parts for version in part.data_policy_versions}),
        consents=sorted({consent for part in parts for consent in part.consents}),
        model_versions=sorted({version for part in parts for version in part.model_versions}),
        cameras=sorted({camera for part in parts for camera in part.cameras}),
        decisions=dict(decisions),
        kept_because=dict(reasons),
        words=parts[0].words,
    )
