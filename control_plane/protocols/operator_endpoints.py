"""Every operation of the operators' API. A room lists its own in `operator_endpoints.py`; it joins them here with one line."""

from control_plane.account.customers import OPERATOR_ENDPOINTS as CUSTOMERS
from control_plane.account.data_policy import OPERATOR_ENDPOINTS as DATA_POLICY
from control_plane.account.keys import OPERATOR_ENDPOINTS as KEYS
from control_plane.account.mails import OPERATOR_ENDPOINTS as MAILS
from control_plane.account.requests import OPERATOR_ENDPOINTS as REQUESTS
from control_plane.account.signups import OPERATOR_ENDPOINTS as SIGNUPS
from control_plane.account.webhooks import OPERATOR_ENDPOINTS as WEBHOOKS
from control_plane.endpoints.endpoint import Endpoint
from control_plane.invoices.operator_endpoints import BILLING_ENDPOINTS
from control_plane.operators.endpoints import ENDPOINTS as OPERATORS
from control_plane.operators.fleet_endpoints import ENDPOINTS as FLEET

OPERATOR_ENDPOINTS: tuple[Endpoint, ...] = (
    *OPERATORS,
    *CUSTOMERS,
    *KEYS,
    *DATA_POLICY,
    *REQUESTS,
    *MAILS,
    *WEBHOOKS,
    *SIGNUPS,
    *BILLING_ENDPOINTS,
    *FLEET,
)
