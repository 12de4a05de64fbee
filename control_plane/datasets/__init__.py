"""From captured episodes to a LeRobotDataset v3: a batch job of operators and ML engineers, never part of serving."""
