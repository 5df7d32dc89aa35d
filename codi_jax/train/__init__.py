"""Training: a recipe of stages, one loop for all of them."""
