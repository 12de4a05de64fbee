"""The doors: ways into the one pipeline, the wall they all stand in, and what operators and machines ask.

A door understands a wire format and nothing else; the steps of a request are in `inference`.
"""
