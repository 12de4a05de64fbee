"""Scripts that ask the original code of a policy for answers and freeze them as fixtures, each in an environment of its own."""
