"""Every operation on a customer's own affairs, besides inference and safety: a room joins its own here with one line."""

from control_plane.account.data_policy import OWN_ENDPOINTS as DATA_POLICY
from control_plane.account.feedback import OWN_ENDPOINTS as FEEDBACK
from control_plane.account.keys import OWN_ENDPOINTS as KEYS
from control_plane.account.requests import OWN_ENDPOINTS as REQUESTS
from control_plane.account.signups import OWN_ENDPOINTS as SIGNUPS
from control_plane.account.usage import OWN_ENDPOINTS as USAGE
from control_plane.account.webhooks import OWN_ENDPOINTS as WEBHOOKS
from control_plane.endpoints.endpoint import Endpoint
from control_plane.invoices.own_endpoints import OWN_BILLING_ENDPOINTS

OWN_ENDPOINTS: tuple[Endpoint, ...] = (
    *USAGE,
    *REQUESTS,
    *KEYS,
    *WEBHOOKS,
    *SIGNUPS,
    *DATA_POLICY,
    *FEEDBACK,
    *OWN_BILLING_ENDPOINTS,
)
