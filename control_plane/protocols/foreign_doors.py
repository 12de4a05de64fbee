"""The doors besides our own REST ones, as routes: which address leads to which wire. Knows no wire's inside."""

from collections.abc import Callable, Mapping

from starlette.routing import WebSocketRoute

from control_plane.inference.body import BodyLimits
from control_plane.inference.pipeline import Pipeline
from control_plane.protocols import openpi, stream
from control_plane.protocols.doorway import Register
from control_plane.protocols.sockets import SocketDoor, SocketLimits, Wire


def sockets(pipeline: Pipeline, body: BodyLimits, register: Register, *, idle_s: float) -> list[WebSocketRoute]:
    """The WebSockets; a message may be as large as a body."""
    offer = pipeline.contract.offer
    limits = SocketLimits(max_bytes=body.max_bytes, idle_s=idle_s)

    def openpi_wire(query: Mapping[str, str]) -> openpi.Openpi:
        return openpi.Openpi(offer=offer, max_bytes=body.max_bytes, query=query)

    def stream_wire(_query: Mapping[str, str]) -> stream.Stream:
        return stream.Stream(offer=offer, max_bytes=body.max_bytes)

    wires: dict[str, Callable[[Mapping[str, str]], Wire]] = {**dict.fromkeys(openpi.PATHS, openpi_wire), stream.PATH: stream_wire}
    return [
        WebSocketRoute(path, SocketDoor(path=path, wire=wire, pipeline=pipeline, register=register, limits=limits))
        for path, wire in wires.items()
    ]
