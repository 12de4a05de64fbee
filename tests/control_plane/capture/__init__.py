"""Tests of what is kept: collected, shipped, swept, deleted, exported."""
