"""Metrics on anybody's samples. A metric is usable alone: `compute(FrechetDistance(reference), [features])`."""
