# make demo   sets up, makes a page with the packaged model, then trains $(CONFIG), measures it, writes the report and
#             ends on a verdict; fails if what was trained is below its floors
# make digit_world   trains text, image, audio and video for as long as the same floors take; no page
# make claims the tables of README.md and docs/results.md: the packaged model, its recipe with other seeds ($(SEEDS) in all),
#             the paper's loss, tokens of a map, pairs of everything and ablations from the same first stages, n = 256,
#             read by pretrained judges, too; many hours, in runs that can be called alone and go on where they were:
#             python -m benchmarks.claims run --list
# make sweep  which settings of sampling are best on validation samples, one at a time around those of the config: of the
#             packaged model, and of what `make claims` has trained; docs/claims/sweep.*.json
# make package  trains what lies in the package (judges, similarity towers, the model), measures it, and writes it there
#             if it meets its floors; three hours
# make test   sets up, lints, checks types, runs the suite
# make docs   builds the site of docs/ into out/site: broken links and docstrings that do not parse are errors (extra `docs`)
# make pictures  the gallery and the pictures of docs/, made anew by the packaged model, as tests ask for after make package
# make parity the same networks in PyTorch, transformers and diffusers, compared number by number (extra `parity`)
# make versions  the core of the suite on each of python3.13, python3.12, python3.11 that is here, in .venv-3.X
# make wheel  the sdist and the wheel in dist/, and README's lines of Python with the wheel in a bare environment; needs a package
#             index
# PYTHON=…    the Python of .venv, made once; by default the newest of these three
VENV ?= .venv
OUT ?= out/demo
CONFIG ?= demo
DIGIT_WORLD ?= digit_world:length=3
JOBS ?= 2
LENGTH ?= 3
BIN := $(VENV)/bin
export JAX_PLATFORMS ?= cpu

.PHONY: demo trained digit_world package test tpu core versions parity slow clean
.PHONY: claims sweep docs pictures wheel

# Each is done once: the script knows whether there is anything to do.
VENVS := $(foreach extra,demo judges test parity docs serve,$(VENV)/.$(extra))
.PHONY: $(VENVS)
$(VENVS): $(VENV)/.%:
	@launch/venv.sh $(VENV) $* $(PYTHON)

# Not two at once in one folder.
$(VENV)/.judges: $(VENV)/.demo
$(VENV)/.parity $(VENV)/.serve: $(VENV)/.test

# `trained` leaves the page out: train, measure, report, verdict.
demo trained: $(VENV)/.demo
	$(BIN)/codi-jax demo --config=$(CONFIG) --out=$(OUT) --jobs=$(JOBS) \
		$(if $(filter trained,$@),--no-page) $(if $(REUSE),--reuse=$(REUSE))

digit_world:
	$(MAKE) trained CONFIG=$(DIGIT_WORLD) OUT=out/digit_world

SEEDS ?= 3
REPEAT_LENGTH ?= $(LENGTH)
ABLATION_LENGTH ?= 1

claims: $(VENV)/.demo $(VENV)/.judges
	$(BIN)/python -m benchmarks.claims run --seeds=$(SEEDS) --repeat-length=$(REPEAT_LENGTH) \
		--ablation-length=$(ABLATION_LENGTH) --jobs=$(JOBS)
	$(BIN)/python -m benchmarks.claims readme

SWEEP := $(BIN)/python -m benchmarks.sweep
SWEPT := paper=out/claims/trained/ablation.paper ours=out/claims/trained/ablation.own

sweep: $(VENV)/.demo
	$(SWEEP) --model=digit_world --variant=packaged --out=docs/claims/sweep.packaged.json
	@set -e; for pair in $(SWEPT); do variant=$${pair%%=*}; workdir=$${pair#*=}; \
		if [ ! -f $$workdir/config.json ]; then echo "sweep: no $$workdir, so $$variant is left out (make claims trains it)"; \
		else $(SWEEP) --workdir=$$workdir --variant=$$variant --out=docs/claims/sweep.$$variant.json; fi; done

PACKAGED := digit_world:length=$(LENGTH),n=256,floors=package
JUDGES := digit_world:judges
WEIGHTS := codi_jax/digit_world/weights

# Judges come first, since the model is measured with them.
package: $(VENV)/.demo $(VENV)/.judges
	$(BIN)/codi-jax train --config=$(JUDGES) --workdir=out/package/judges --quiet --jobs=$(JOBS)
	$(BIN)/codi-jax package --judges=out/package/judges --out=$(WEIGHTS) --judges-trained-with=$(JUDGES)
	$(BIN)/codi-jax train --config=$(PACKAGED) --workdir=out/package/model --quiet --jobs=$(JOBS)
	$(BIN)/codi-jax evaluate --workdir=out/package/model
	$(BIN)/codi-jax package --workdir=out/package/model --judges=out/package/judges --out=$(WEIGHTS) \
		--trained-with=$(PACKAGED) --judges-trained-with=$(JUDGES)

test: $(VENV)/.test tpu
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	PYTHONPATH=$(CURDIR)/$(VENV)/tpu $(BIN)/python -m pytest -n $(JOBS) --durations=30

# The TPU compiler that this jax names, for tests of plans; in a folder of its own, since with it jax looks for a TPU at
# every start and prints warnings if there is none.
LIBTPU := import importlib.metadata as m; print(next(r.split(";")[0] for r in m.requires("jax") if "libtpu" in r))
tpu: $(VENV)/.test
	@test -d $(VENV)/tpu || $(BIN)/python -m pip install -q --no-compile --no-deps --target $(VENV)/tpu \
		"$$($(BIN)/python -c '$(LIBTPU)')" || echo "no libtpu for this machine: plans for TPUs are not tested"

# What depends on the versions of Python, jax, flax, Orbax and grain most, in less time than the whole suite.
CORE := $(addprefix tests/,test_layers.py test_config.py test_rng.py test_codi.py test_pipeline.py sampling diffusion parallel \
	checkpoint media data nn encoders modalities optim objectives parity metrics train/test_trainer.py \
	train/test_encoding.py train/test_interruptions.py) \
	$(wildcard tests/digit_world/test_*.py)

core: $(VENV)/.test
	$(BIN)/python -m pytest -n $(JOBS) $(CORE)

versions:
	@pythons=$$(launch/venv.sh --list) || exit; failed=; \
	for python in $$pythons; do \
		version=$${python##*/python}; \
		$(MAKE) core PYTHON=$$python VENV=.venv-$$version || failed="$$failed $$version"; \
	done; \
	if [ -n "$$failed" ]; then echo "failed with Python$$failed" >&2; exit 1; fi; \
	echo "passed with" $$pythons

pictures: $(VENV)/.demo
	$(BIN)/python -m benchmarks.pictures --out=docs/pictures
	$(BIN)/python -m benchmarks.gallery --out=docs

docs: $(VENV)/.docs
	$(BIN)/mkdocs build

wheel:
	@.ci/wheel $(PYTHON)

parity: $(VENV)/.parity
	$(BIN)/python -m pytest tests/parity/oracles tests/benchmarks/test_unet.py

slow: $(VENV)/.test $(VENV)/.serve
	$(BIN)/python -m pytest -m slow

clean:
	rm -rf .venv .venv-3.* out build dist *.egg-info
