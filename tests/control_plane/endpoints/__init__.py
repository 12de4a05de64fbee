"""Tests of what resources offer over HTTP."""
