"""Writes `dashboards/*.json` (`python -m dashboards.boards`, part of `make golden`): one file here for each dashboard there."""
