"""What exporter and control plane agree on about a policy.

Knows numpy and pydantic only: no torch, no HTTP, no Triton. The exporter writes these facts,
the control plane refuses to serve without them.
"""
