"""Tests of operators as callers."""
