"""Every operation on a customer's own affairs, besides inference and safety: a room joins its own here with one line."""

from control_plane.endpoints.endpoint import Endpoint
from control_plane.invoices.own_endpoints import OWN_BILLING_ENDPOINTS

OWN_ENDPOINTS: tuple[Endpoint, ...] = (*OWN_BILLING_ENDPOINTS,)
