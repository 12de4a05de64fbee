"""The action guard: compares numbers with configured limits. It is not a safety function.

numpy only; knows nothing of HTTP, Redis, Triton or policies. The control plane calls `guard.check`.
"""
