"""`codi-jax report`: the page of a run on digit_world, with its gallery and the numbers of the benchmark."""
