"""The control plane: the only package that knows HTTP, Redis, PostgreSQL, Triton and settings."""
