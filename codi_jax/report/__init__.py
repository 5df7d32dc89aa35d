"""Parts of self-contained pages: markup, plots, and the figures of training."""
