"""What a resource offers over HTTP besides inference: plain functions whose signature says who may call and what goes in and out.

A room lists its `Endpoint`s; the doors in `protocols` authenticate, read, call and answer. Knows no door and no store.
"""
