"""The life of a request, one file per step; `pipeline.py` reads like DESIGN §2 and everything else is a step of it.

Knows no HTTP route and no framework: the doors in `protocols` bring requests in and take answers out.
"""
