"""What a session keeps: exactly what is needed, through bytes and back, and nothing from bytes that are not ours."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safety.context import Context, PreviousChunk, RobotState
from safety.guard import Guard
from safety.memory import BYTES_MAX, packed, remembered, unpacked
from safety.profile import Preset
from tests.safety.factories import READY, joint_chunk, joint_space, panda

GUARD = Guard(panda(), Preset.REDUCED, joint_space())
NOW = Context(state=RobotState(q=list(READY), ee_position=(0.4, 0.0, 0.5)), seq=3, now_s=50.0, image_hash="abc")


def test_an_accepted_chunk_is_remembered_as_it_was_returned() -> None:
    fast = joint_chunk()
    fast[5:, 0] += 0.2
    verdict = GUARD.check(fast, NOW)
    kept = remembered(NOW, verdict)
    assert kept is not None
    assert np.array_equal(kept.actions, verdict.actions)
    assert (kept.seq, kept.sent_at_s, kept.image_hash, kept.q) == (3, 50.0, "abc", READY)


def test_a_refused_motion_leaves_the_last_accepted_chunk_and_moves_the_sequence_on() -> None:
    before = remembered(NOW, GUARD.check(joint_chunk(), NOW))
    later = replace(NOW, previous=before, seq=4, now_s=51.0)
    kept = remembered(later, GUARD.check(joint_chunk() * np.float32(50), later))
    assert before is not None
    assert kept is not None
    assert (kept.seq, kept.sent_at_s) == (4, 50.0)
    assert np.array_equal(kept.actions, before.actions)
    assert remembered(NOW, GUARD.check(None, NOW)) is None


def test_a_request_at_fault_changes_nothing() -> None:
    before = remembered(NOW, GUARD.check(joint_chunk(), NOW))
    replay = replace(NOW, previous=before, seq=3)
    assert remembered(replay, GUARD.check(joint_chunk(), replay)) is before


def test_without_a_clock_nothing_is_remembered() -> None:
    timeless = replace(NOW, now_s=None)
    assert remembered(timeless, GUARD.check(joint_chunk(), timeless)) is None


def test_a_request_without_seq_keeps_the_last_one() -> None:
    before = remembered(NOW, GUARD.check(joint_chunk(), NOW))
    silent = Context(previous=before, now_s=51.0)
    kept = remembered(silent, GUARD.check(joint_chunk(), silent))
    assert kept is not None
    assert (kept.seq, kept.q, kept.image_hash) == (3, None, None)


def test_bytes_are_the_chunk_again() -> None:
    kept = remembered(NOW, GUARD.check(joint_chunk(), NOW))
    assert kept is not None
    again = unpacked(packed(kept))
    assert again is not None
    assert again.actions.tobytes() == kept.actions.tobytes()
    assert again.actions.dtype == np.float32
    for name in ("sent_at_s", "seq", "image_hash", "q", "ee_position", "frozen_count", "frozen_steps", "tracking_count"):
        assert getattr(again, name) == getattr(kept, name)


def test_the_longest_chunk_fits() -> None:
    widest = PreviousChunk(actions=np.ones((200, 16), dtype=np.float32), sent_at_s=1.0, image_hash="f" * 64)
    assert len(packed(widest)) < 13_500 < BYTES_MAX


GOOD = packed(PreviousChunk(actions=np.ones((2, 8), dtype=np.float32), sent_at_s=1.0, q=READY))


@pytest.mark.parametrize(
    "data",
    [
        None,
        b"",
        b"\n",
        b"null\n",
        b"[1]\n",
        GOOD[:-1],
        GOOD + b"x",
        GOOD.replace(b'"v": 1', b'"v": 2'),
        GOOD.replace(b'"sent_at_s": 1.0', b'"sent_at_s": NaN'),
        GOOD.replace(b'"sent_at_s": 1.0', b'"sent_at_s": 1e999'),
        GOOD.replace(b'"seq": null', b'"seq": 1.5'),
        GOOD.replace(b'"frozen_count": 0', b'"frozen_count": -1'),
        GOOD.replace(b'"image_hash": null', b'"image_hash": 7'),
        GOOD.replace(b'"q": [', b'"q": ["a", '),
        GOOD.replace(b'"shape": [2, 8]', b'"shape": [0, 8]'),
        GOOD.replace(b'"shape": [2, 8]', b'"shape": [2, 8, 1]'),
        GOOD.replace(b'"shape"', b'"shade"'),
        GOOD.replace(b'"seq"', b'"sequence"'),
        GOOD[:-4] + np.float32(np.nan).tobytes(),
        b"x" * (BYTES_MAX + 1),
    ],
)
def test_what_we_did_not_write_is_no_memory(data: bytes | None) -> None:
    assert unpacked(data) is None


@settings(max_examples=1000, deadline=None, derandomize=True, database=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_a_flipped_byte_never_raises(at: int, byte: int) -> None:
    unpacked(GOOD[:at] + bytes([byte]) + GOOD[at + 1 :])
