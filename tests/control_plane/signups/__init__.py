"""Tests of signups."""
