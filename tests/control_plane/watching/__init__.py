"""Tests of what the worker looks at for alerts."""
