"""Every operation on a customer's own affairs, besides inference and safety: a room joins its own here with one line."""

from control_plane.endpoints.endpoint import Endpoint

OWN_ENDPOINTS: tuple[Endpoint, ...] = ()
