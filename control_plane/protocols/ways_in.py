"""Which address leads to which wire: every way to ask for a motion, on HTTP and on sockets. Knows no wire's inside."""

from collections.abc import Callable, Mapping

from control_plane.inference.body import BodyLimits
from control_plane.inference.pipeline import Pipeline
from control_plane.protocols import act, actions, openpi, rest, stream
from control_plane.protocols.doorway import Register
from control_plane.protocols.http_wire import InferenceDoor, Wire
from control_plane.protocols.sockets import SocketDoor, SocketLimits
from control_plane.protocols.sockets import Wire as SocketWire


def inference_doors(pipeline: Pipeline, body: BodyLimits, *, errors_url: str) -> tuple[InferenceDoor, ...]:
    """The HTTP doors onto the pipeline, each a POST."""

    def door(path: str, wire: Callable[[], Wire]) -> InferenceDoor:
        return InferenceDoor(path=path, wire=wire, pipeline=pipeline, limits=body)

    return (
        door(rest.PATH, lambda: rest.Rest(errors_url=errors_url)),
        door(act.PATH, lambda: act.Act(errors_url=errors_url)),
        door(actions.PATH, lambda: actions.Actions(errors_url=errors_url)),
    )


def sockets(pipeline: Pipeline, body: BodyLimits, register: Register, *, idle_s: float) -> list[SocketDoor]:
    """The WebSockets; a message may be as large as a body."""
    offer = pipeline.contract.offer
    limits = SocketLimits(max_bytes=body.max_bytes, idle_s=idle_s)

    def openpi_wire(query: Mapping[str, str]) -> openpi.Openpi:
        return openpi.Openpi(offer=offer, max_bytes=body.max_bytes, query=query)

    def stream_wire(_query: Mapping[str, str]) -> stream.Stream:
        return stream.Stream(offer=offer, max_bytes=body.max_bytes)

    wires: dict[str, Callable[[Mapping[str, str]], SocketWire]] = {
        **dict.fromkeys(openpi.PATHS, openpi_wire),
        stream.PATH: stream_wire,
    }
    return [SocketDoor(path=path, wire=wire, pipeline=pipeline, register=register, limits=limits) for path, wire in wires.items()]
