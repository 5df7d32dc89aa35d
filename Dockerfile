# syntax=docker/dockerfile:1
# Images of the command line, built from this tree; docs/index.md says how to run them.
#   docker build --target cpu  -t codi-jax .          the default
#   docker build --target cuda -t codi-jax:cuda .     for NVIDIA GPUs, driver 580 or later
# EXTRAS are extras of setup.py that both have; those of the target are added.
ARG PYTHON=3.13-slim-bookworm

FROM python:${PYTHON} AS builder
WORKDIR /src
COPY setup.py pyproject.toml README.md LICENSE ./
COPY configs configs
COPY codi_jax codi_jax
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

FROM python:${PYTHON} AS base
ARG EXTRAS=media,heic,parquet,gs,s3
ENV LANG=C.UTF-8 PYTHONUNBUFFERED=1
RUN useradd --create-home --uid 1000 codi && install --directory --owner=codi --group=codi /work
WORKDIR /work
ENTRYPOINT ["codi-jax"]
CMD ["--help"]

FROM base AS cuda
# What the NVIDIA container toolkit mounts; the CUDA libraries themselves come with the extra.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN --mount=type=bind,from=builder,source=/dist,target=/dist \
    pip install --no-cache-dir "$(echo /dist/*.whl)[${EXTRAS},cuda]"
USER 1000

# Last, so that it is what `docker build` makes without --target.
FROM base AS cpu
RUN --mount=type=bind,from=builder,source=/dist,target=/dist \
    pip install --no-cache-dir "$(echo /dist/*.whl)[${EXTRAS}]"
USER 1000
