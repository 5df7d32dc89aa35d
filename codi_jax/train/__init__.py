"""Training: a recipe of stages and the loop that trains them."""
