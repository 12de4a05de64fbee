"""Tests mirror the source; integration tests use the real servers that `make up` uses."""
