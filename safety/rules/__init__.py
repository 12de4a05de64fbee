"""The rules of the guard, one file per family. `catalogue.py` puts them in order for one robot and one action space."""
