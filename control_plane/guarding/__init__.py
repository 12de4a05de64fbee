"""Which guard is in force for a request: stored limits and layers, guards ready for use, and what a session remembers.

The checks themselves are `safety`'s; here lie their storage, their HTTP and their commands.
"""
