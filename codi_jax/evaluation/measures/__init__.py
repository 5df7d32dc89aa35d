"""Which metrics apply to what samples, and their numbers: one file for each kind of metric."""
