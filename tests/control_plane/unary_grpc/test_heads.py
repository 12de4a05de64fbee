"""Reading header blocks of peers that remember headers, forget them, or change their minds."""

import random

import pytest
from hpack import Encoder

from control_plane.unary_grpc.frames import ProtocolError
from control_plane.unary_grpc.heads import Heads, message_of, timeout_head


def test_every_block_means_what_the_peer_wrote_however_its_table_changes() -> None:
    chance, encoder, heads = random.Random(7), Encoder(), Heads()
    for step in range(2000):
        if chance.random() < 0.02:
            encoder.header_table_size = chance.choice([0, 100, 300, 4096])
        head = {":status": "200", "grpc-status": str(chance.randrange(3)), "x": str(chance.randrange(4))}
        if step % 7 == 0:
            head["grpc-message"] = f"message {step}"
        assert heads.read(encoder.encode(list(head.items()))) == head


def test_a_block_that_came_before_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, heads = Encoder(), Heads()
    head = [(":status", "200"), ("content-type", "application/grpc")]
    blocks = [encoder.encode(head) for _ in range(3)]
    assert [heads.read(block) for block in blocks[:2]] == [dict(head)] * 2
    monkeypatch.setattr(heads, "_decoder", None)
    assert heads.read(blocks[2]) == dict(head)


@pytest.mark.parametrize("block", [b"\xff\xff\xff\xff\xff", b"\xbe", b"\x40\x01"])
def test_what_cannot_be_read_breaks_the_protocol(block: bytes) -> None:
    with pytest.raises(ProtocolError, match="a header block that cannot be read"):
        Heads().read(block)


def test_a_message_is_unquoted() -> None:
    assert message_of({"grpc-message": "50%25 of %E2%82%AC, %FF"}) == "50% of €, \ufffd"
    assert message_of({}) == ""


@pytest.mark.parametrize(
    ("timeout_s", "written"),
    [(1.5, b"1500000u"), (0.0, b"1u"), (99.999999, b"99999999u"), (100.0, b"100S"), (1e12, b"99999999S")],
)
def test_a_timeout_has_at_most_eight_digits(timeout_s: float, written: bytes) -> None:
    assert timeout_head(timeout_s) == b"\x00\x0cgrpc-timeout" + bytes([len(written)]) + written
