"""The life of a request, one file per step; `pipeline.py` reads like the README's ten steps, everything else is one of them.

Knows no HTTP route and no framework: the doors in `protocols` bring requests in and take answers out.
"""
