"""`python -m codi_jax.cli`, the same as `codi-jax`."""

from codi_jax.cli import main

if __name__ == "__main__":  # processes that train side by side import this module again
    main()
