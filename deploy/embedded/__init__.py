"""The whole service on one machine with one command: real servers from wheels, supervised, no docker and no root needed."""
