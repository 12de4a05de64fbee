"""Looks at the dashboards without Grafana: asks what their panels ask, and draws the answers in their places.

For developers and tests. What it cannot show is Grafana itself; docs/DASHBOARDS.md says what was looked at and how.
"""
