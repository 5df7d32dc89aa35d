"""`codi-jax doctor`: what this installation and machine are, and what is wrong with them.

    facts         what is known, as plain values
    requirements  versions of packages, and whether they are within the bounds of codi_jax
    machine       memory, cores, drivers, folders, locale and environment variables
    probe         asked in a process of its own: devices, the packaged model, PyAV; `ask` runs it with a time limit
    collect       all of it
    problems      pure functions of the facts: what is wrong, and what to do about it

Nothing here but `probe` imports jax, since its import may be what fails, and a device that is busy may never answer.
"""
