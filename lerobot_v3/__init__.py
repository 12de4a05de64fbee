"""LeRobotDataset v3.0 on disk: the one writer and reader of it here, for what customers let us keep and for demonstrations.

Needs numpy, pyarrow and PyAV only, so that neither the serving image nor the trainer has to hold LeRobot itself. Imports none of
our other packages; `control_plane.datasets` and `tabletop` use it.
"""
