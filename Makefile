# make demo   sets up, makes a page with the packaged model, then trains $(CONFIG), measures it, writes the report and
#             ends on a verdict; fails if what was trained is below its floors
# make digit_world   trains text, image, audio and video for as long as the same floors take; no page
# make claims the tables of README.md and docs/results.md: the same, trained $(LENGTH) times as long with $(SEEDS) seeds,
#             n = 256, read by pretrained judges too; beside it the paper's loss, tokens of a map, pairs of everything,
#             and $(ABLATIONS); many hours, in steps that can be called alone, each of which goes on where it was
# make sweep  which settings of sampling are best on validation samples, one at a time around those of the config: of the
#             packaged model, and of what `make claims` has trained; docs/claims/sweep.*.json
# make package  trains what lies in the package (judges, similarity towers, the model), measures it, and writes it there
#             if it meets its floors; three hours
# make test   sets up, lints, checks types, runs the suite
# make parity the same networks in PyTorch, transformers and diffusers, compared number by number (extra `parity`)
# make versions  the core of the suite on each of python3.13, python3.12, python3.11 that is here, in .venv-3.X
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
.PHONY: sweep claims claims-seed claims-variant claims-ablation claims-packaged claims-demo claims-tables claim

# Each is done once: the script knows whether there is anything to do.
VENVS := $(foreach extra,demo judges test parity,$(VENV)/.$(extra))
.PHONY: $(VENVS)
$(VENVS): $(VENV)/.%:
	@launch/venv.sh $(VENV) $* $(PYTHON)

# Not two at once in one folder.
$(VENV)/.judges: $(VENV)/.demo
$(VENV)/.parity: $(VENV)/.test

# `trained` leaves the page out: train, measure, report, verdict.
demo trained: $(VENV)/.demo
	$(BIN)/codi-jax demo --config=$(CONFIG) --out=$(OUT) --jobs=$(JOBS) \
		$(if $(filter trained,$@),--no-page) $(if $(REUSE),--reuse=$(REUSE))

digit_world:
	$(MAKE) trained CONFIG=$(DIGIT_WORLD) OUT=out/digit_world

SEEDS ?= 3
REPEAT_LENGTH ?= $(LENGTH)
SAMPLES := n=256,pretrained=256
VARIANTS := merged paper map
OPTION_merged := pools=merged
OPTION_paper := loss=paper
OPTION_map := tokens=map
# Options of the config digit_world; delay=K is one of sampling, and trains nothing.
ABLATIONS ?= anchor=partner anchor=none delay=0
SEED ?= 0
VARIANT ?= paper
ABLATION ?= anchor=partner
COLLECTED := out/claims/collected

# Seed 0 comes first, since the others copy its first stages. Variants run side by side, the longest first.
claims:
	for seed in $$(seq 0 $$(($(SEEDS) - 1))); do $(MAKE) claims-seed SEED=$$seed || exit; done
	printf '%s\n' $(VARIANTS) | xargs -P $(JOBS) -I{} $(MAKE) claims-variant VARIANT={} JOBS=1
	printf '%s\n' $(ABLATIONS) | xargs -P $(JOBS) -I{} $(MAKE) claims-ablation ABLATION={} JOBS=1
	$(MAKE) claims-tables

claims-seed:
	$(MAKE) claim NAME=seed$(SEED) OPTIONS=length=$(if $(filter 0,$(SEED)),$(LENGTH),$(REPEAT_LENGTH)),$(SAMPLES) \
		OVERRIDES=--config.seed=$(SEED)

claims-variant:
	$(MAKE) claim NAME=variant.$(VARIANT) OPTIONS=length=$(LENGTH),$(SAMPLES),$(OPTION_$(VARIANT)) REUSE=out/claims/seed0

DELAYED := image audio video
DELAY = $(patsubst delay=%,%,$(filter delay=%,$(ABLATION)))
claims-ablation:
	$(MAKE) claim NAME=ablation.$(subst =,-,$(ABLATION)) REUSE=out/claims/seed0 \
		OPTIONS=length=$(LENGTH),$(SAMPLES)$(if $(DELAY),,$(comma)$(ABLATION)) \
		OVERRIDES="$(if $(DELAY),$(foreach output,$(DELAYED),--config.generate.delay.$(output)=$(DELAY)))"
comma := ,

# Trains and measures one run; a verdict below the floors (exit code 1) is a result, too. What is collected is copied to
# docs/claims at the end, so that no step changes the checkout in which the next one is measured.
claim: WORKDIR = out/claims/$(subst .,-,$(NAME))
claim: NAMED = $(if $(OPTIONS),digit_world:$(OPTIONS),$(CONFIG))
claim: $(VENV)/.demo $(VENV)/.judges
	@git diff --quiet HEAD || { echo "commit your changes first: numbers are of a commit" >&2; exit 2; }
	$(BIN)/codi-jax demo --no-page --config=$(NAMED) $(OVERRIDES) --out=$(WORKDIR) --jobs=$(JOBS) \
		$(if $(REUSE),--reuse=$(REUSE)) || test $$? -eq 1
	$(BIN)/python -m benchmarks.claims collect --name=$(NAME) --workdir=$(WORKDIR) --out=$(COLLECTED) \
		--trained-with="$(strip $(NAMED) $(OVERRIDES))"

claims-demo:
	$(MAKE) claim NAME=demo CONFIG=demo

claims-packaged: $(VENV)/.demo $(VENV)/.judges
	$(BIN)/codi-jax evaluate --model=digit_world --workdir=out/claims/packaged || test $$? -eq 1
	$(BIN)/python -m benchmarks.claims collect --name=packaged --workdir=out/claims/packaged --out=$(COLLECTED) \
		--card=$(WEIGHTS)/card.json

claims-tables: $(VENV)/.demo
	mkdir -p docs/claims
	cp $(COLLECTED)/*.json docs/claims/
	$(BIN)/python -m benchmarks.claims readme

SWEEP := $(BIN)/python -m benchmarks.sweep
SWEPT := ours=out/claims/seed0 paper=out/claims/variant-paper

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
	PYTHONPATH=$(CURDIR)/$(VENV)/tpu $(BIN)/python -m pytest -n $(JOBS)

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

parity: $(VENV)/.parity
	$(BIN)/python -m pytest tests/parity/oracles tests/benchmarks/test_unet.py

slow: $(VENV)/.test
	$(BIN)/python -m pytest -m slow

clean:
	rm -rf .venv .venv-3.* out build *.egg-info
