"""Ask a vlaapi service for robot motion.

    with Client("https://vla.example.com", "vla_live_…") as client:
        client.warm()
        action = client.infer(frame, "pick up red cube").action

`errors` draws what can go wrong; whatever is not a motion raises.
"""

from vlaapi_client import account
from vlaapi_client.async_client import AsyncClient
from vlaapi_client.chunks import ChunkBroker, Plan, Step
from vlaapi_client.client import Client
from vlaapi_client.errors import (
    ConnectionLost,
    Continue,
    DeadlineExceeded,
    Hold,
    InvalidRequest,
    NotAllowed,
    QuotaUsedUp,
    RateLimited,
    Refused,
    RetryAfter,
    ServiceFault,
    Stop,
    Superseded,
    Unavailable,
    VlaError,
)
from vlaapi_client.lerobot import RemotePolicy
from vlaapi_client.results import Action, Answer, Camera, Model, Timings, Usage, Verdict
from vlaapi_client.timeline import Due

__all__ = [
    "Action",
    "Answer",
    "AsyncClient",
    "Camera",
    "ChunkBroker",
    "Client",
    "ConnectionLost",
    "Continue",
    "DeadlineExceeded",
    "Due",
    "Hold",
    "InvalidRequest",
    "Model",
    "NotAllowed",
    "Plan",
    "QuotaUsedUp",
    "RateLimited",
    "Refused",
    "RemotePolicy",
    "RetryAfter",
    "ServiceFault",
    "Step",
    "Stop",
    "Superseded",
    "Timings",
    "Unavailable",
    "Usage",
    "Verdict",
    "VlaError",
    "account",
]
