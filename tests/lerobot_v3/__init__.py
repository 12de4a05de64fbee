"""Tests of the writer and the reader of LeRobotDataset v3."""
