"""Conversion between public checkpoints and our parameters: name tables (`names`), one per family of models."""
