"""Kills real servers under load and counts: every acknowledged request has exactly one row, none has two."""
