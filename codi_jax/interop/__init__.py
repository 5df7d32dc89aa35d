"""Public checkpoints ↔ our parameters: one engine of name tables (`names`) and one table per family of models."""
