"""How vlaapi is run: the embedded one-command stack, and the files of production deployments."""
