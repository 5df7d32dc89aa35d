# make demo   sets up, trains every stage on text, image, audio and video, generates, measures, writes the report
# make two    the same on text and image
# make claims the same, trained $(LENGTH) times as long, n = 256, read by pretrained judges too, and beside it what the
#             paper's loss, tokens of a map and pairs of everything give; two hours and more
# make test   sets up, lints, runs the suite
# make parity the same networks in PyTorch, transformers and diffusers, compared number by number (extra `parity`)
PYTHON ?= python3.11
OUT ?= out/demo
CONFIG ?= configs/four.py:length=0.3
JOBS ?= 2
LENGTH ?= 3
BIN := .venv/bin
export JAX_PLATFORMS ?= cpu

.PHONY: demo two claims claims-merged claims-paper claims-map test parity slow clean

$(BIN)/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/.demo: setup.py pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[demo]'
	touch $@

.venv/.judges: setup.py pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[judges]'
	touch $@

.venv/.test: setup.py pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[test]'
	touch $@

.venv/.parity: setup.py pyproject.toml | .venv/.test
	$(BIN)/python -m pip install --quiet -e '.[parity]'
	touch $@

demo: .venv/.demo
	$(BIN)/codi-jax train --config=$(CONFIG) --workdir=$(OUT) --quiet --jobs=$(JOBS) $(if $(REUSE),--reuse=$(REUSE))
	$(BIN)/codi-jax evaluate --workdir=$(OUT)
	$(BIN)/codi-jax report --workdir=$(OUT)

two:
	$(MAKE) demo CONFIG=configs/two.py OUT=out/two

CLAIMS := configs/four.py:length=$(LENGTH),n=256

# The variants run side by side, the longest first.
claims: .venv/.demo .venv/.judges
	$(MAKE) demo CONFIG=$(CLAIMS) OUT=out/claims
	$(MAKE) -j$(JOBS) claims-merged claims-paper claims-map
	$(BIN)/codi-jax compare out/claims out/claims/paper out/claims/map out/claims/merged

claims-merged: VARIANT = pools=merged
claims-paper: VARIANT = loss=paper
claims-map: VARIANT = tokens=map
claims-merged claims-paper claims-map:
	$(MAKE) demo CONFIG=$(CLAIMS),$(VARIANT) OUT=out/claims/$(@:claims-%=%) REUSE=out/claims JOBS=1

test: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n $(JOBS)

parity: .venv/.parity
	$(BIN)/python -m pytest tests/parity/oracles

slow: .venv/.test
	$(BIN)/python -m pytest -m slow

clean:
	rm -rf .venv out build *.egg-info
