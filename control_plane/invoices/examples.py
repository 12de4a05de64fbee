"""Examples for the descriptions of the API: Acme Robotics in November 2026. Values only."""

_ID = "0193a6b2c4d87e1fa2b3c4d5e6f70819"
_SPAN = {"starts_at": "2026-11-01T00:00:00Z", "ends_at": "2026-12-01T00:00:00Z", "service_month": "2026-11"}

INVOICE_EXAMPLE = {
    "id": f"inv_{_ID}",
    "number": "INV-000042",
    "customer": f"cus_{_ID}",
    "company_name": "Acme Robotics Inc.",
    "month": "2026-11",
    "state": "finalized",
    "currency": "USD",
    "total_cents": 286_450,
    "paid_cents": 0,
    "credited_cents": 0,
    "open_cents": 286_450,
    "finalized_at": "2026-12-01T00:30:00Z",
    "due_on": "2026-12-15",
    "paid_at": None,
    "voided_at": None,
    "uncollectible_at": None,
}
_LINE = {"currency": "USD", **_SPAN, "tier": "enterprise", "price_version": "2025-01-01", "is_late": False}
LINES_EXAMPLE = [
    {
        "kind": "fee",
        "description": "Enterprise plan",
        **_LINE,
        "quantity": None,
        "unit_cents": "250000",
        "amount_cents": 250_000,
    },
    {
        "kind": "usage",
        "description": "Enterprise plan: requests",
        **_LINE,
        "quantity": 36_450,
        "unit_cents": "1",
        "amount_cents": 36_450,
    },
]
REPORT_EXAMPLE = {
    "invoice": INVOICE_EXAMPLE,
    "content_sha256": "5f7c0e2b9a1d4c36885e7f0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e",
    "seller": {"name": "Example Robotics Services", "address": ["1 Main Street", "Springfield"], "vat_id": None},
    "buyer": {"customer": f"cus_{_ID}", "company_name": "Acme Robotics Inc.", "email": "ops@acme.example"},
    "prices": [
        {
            "tier": "enterprise",
            "price_version": "2025-01-01",
            "currency": "USD",
            "monthly_cents": 250_000,
            "per_request_cents": "1",
            "committed_requests": None,
            "overage_per_request_cents": None,
            "discount_basis_points": 0,
        }
    ],
    "lines": LINES_EXAMPLE,
}
CURRENT_EXAMPLE = {
    "month": "2026-11",
    "as_of": "2026-11-27T20:00:00Z",
    "tier": "enterprise",
    "requests": 36_450,
    "cost_so_far_cents": {"USD": 286_450},
    "forecast_cents": {"USD": 290_746},
    "spend_cap": {
        "cap_cents": 300_000,
        "used_percent": 95.5,
        "thresholds": [
            {"percent": 50, "is_reached": True},
            {"percent": 80, "is_reached": True},
            {"percent": 100, "is_reached": False},
        ],
    },
    "lines": LINES_EXAMPLE,
}
CREDIT_EXAMPLE = {
    "number": "CN-000007",
    "invoice": f"inv_{_ID}",
    "amount_cents": 60_100,
    "currency": "USD",
    "reason": "An outage",
}
PLAN_EXAMPLE = {
    "effective_at": "2026-11-16T12:00:00Z",
    "difference_cents": {"USD": 95_833},
    "before": [LINES_EXAMPLE[0]],
    "after": LINES_EXAMPLE,
}
