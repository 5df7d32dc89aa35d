"""Training: a recipe of stages and the trainer that runs them."""
