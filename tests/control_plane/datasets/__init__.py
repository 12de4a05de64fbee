"""Tests of datasets built from captured episodes."""
