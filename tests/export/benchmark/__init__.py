"""Tests of `export.benchmark`."""
