"""Training: the loop and what it tells the person who watches."""
