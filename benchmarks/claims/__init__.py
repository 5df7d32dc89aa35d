"""The tables of results in README.md and docs/results.md, written from docs/claims/*.json.

    python -m benchmarks.claims collect --name=seed0 --workdir=out/claims/seed0     writes docs/claims/seed0.json
    python -m benchmarks.claims tables      prints all tables
    python -m benchmarks.claims readme      writes them between `<!-- claims:NAME -->` and `<!-- /claims -->`
    python -m benchmarks.claims check       exits with 1 if the documents differ from the files or a table mixes commits

`make claims` trains the runs and calls the first and third. A file is one run, named by what it is for:

    seed0, seed1, …      the recipe of the packaged model with several training seeds; means and ranges are over these
    packaged             the model inside the package, which stands for the seeds where there are none: with
                         --card=codi_jax/digit_world/weights/card.json, the numbers of its card or of a --workdir
    ablation.NAME        other settings of the recipe, at seed 0
    demo                 what `make demo` trains
    sweep.NAME           settings of the sampler; written by another benchmark

A number that a file does not have leaves its cell empty, and an empty column is left out.
"""
