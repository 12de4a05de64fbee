"""PromQL that several dashboards share. What has a recorded name (deploy/prometheus/rules) is asked by that name, so that a panel
and an alert never disagree; what is here is held against the rules' own words by a test.
"""

ROUTES = ("/", "/act", "/openpi/policy", "/v1/actions/generations", "/v1/inference", "/v1/stream")
OUR_FAULT = (
    "cancelled",  # the process stopped under it
    "deadline_exceeded",
    "guard_unavailable",
    "idempotency_unavailable",
    "internal_error",
    "journal_unavailable",
    "overloaded",
    "policy_failed",
    "policy_unavailable",
    "spend_unknown",
    "store_unavailable",
)
WINDOW = "$__rate_interval"

_ROUTE = f'route=~"{"|".join(ROUTES)}"'
_OUR_FAULT = f'outcome=~"{"|".join(OUR_FAULT)}"'


def asked(window: str = WINDOW, by: str = "") -> str:
    """Requests a second."""
    return _sum(f"rate(vla_requests_total{{{_ROUTE}}}[{window}])", by)


def our_faults_counted(window: str) -> str:
    """How many."""
    return f"round({_sum(f'increase(vla_requests_total{{{_ROUTE},{_OUR_FAULT}}}[{window}])')} or vector(0))"


def percentile(share: float, window: str = WINDOW) -> str:
    """Seconds from the first byte to the answer."""
    return f"histogram_quantile({share}, {_sum(f'rate(vla_request_duration_seconds_bucket{{{_ROUTE}}}[{window}])', 'le')})"


def mean_s(window: str = WINDOW) -> str:
    """Seconds."""
    spent, counted = (_sum(f"rate(vla_request_duration_seconds_{part}{{{_ROUTE}}}[{window}])") for part in ("sum", "count"))
    return f"{spent} / {counted}"


def _sum(rate: str, by: str = "") -> str:
    return f"sum by ({by}) ({rate})" if by else f"sum({rate})"
