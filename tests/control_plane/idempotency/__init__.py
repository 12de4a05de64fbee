"""Idempotency-Key: the key, the claims, and the whole of it through the application."""
