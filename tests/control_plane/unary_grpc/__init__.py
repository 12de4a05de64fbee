"""Tests of control_plane.guarding."""
