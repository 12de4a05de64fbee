"""Every operation of the operators' API. A room lists its own in `operator_endpoints.py`; it joins them here with one line."""

from control_plane.endpoints.endpoint import Endpoint
from control_plane.invoices.operator_endpoints import BILLING_ENDPOINTS
from control_plane.operators.endpoints import ENDPOINTS as OPERATORS
from control_plane.operators.fleet_endpoints import ENDPOINTS as FLEET

OPERATOR_ENDPOINTS: tuple[Endpoint, ...] = (*OPERATORS, *BILLING_ENDPOINTS, *FLEET)
