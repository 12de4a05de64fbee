"""The `vlaapi` command: a table of words and the room that answers each."""
