# Every command first makes the environment (.venv) or brings it up to date; nothing is
# downloaded when it is. On Windows: python -m tools.run --profile laptop
PROFILE ?= laptop
PYTHON ?= $(or $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	2>/dev/null && echo $$p && break; done),python3)
COURSE = $(PYTHON) -m tools.environment

# A value with blanks (OUT="my runs") is one argument for the shell.
one = '$(subst ','\'',$(1))'
RUN = $(COURSE) -m tools.run $(if $(CHAPTERS),--chapters $(CHAPTERS)) \
	$(if $(OUT),--out $(call one,$(OUT))) $(if $(SEED),--seed $(SEED)) \
	$(if $(FOLDER),--folder $(call one,$(FOLDER))) $(if $(SWEEP),--sweep $(call one,$(SWEEP))) $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help env run outputs evidence book test test-fast bench lab colab lint

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' Makefile
	@echo
	@echo 'make run takes PROFILE=smoke|laptop|gpu  CHAPTERS="03 04"  OUT=folder  SEED=1'
	@echo '               SWEEP="seed=0,1,2"  FOLDER=notebooks/solutions  ARGS=--fresh'
	@echo 'make evidence takes CHAPTERS="07"  SEEDS="0 1 2 3 4"'

env: ## create the environment .venv from requirements.txt
	@$(COURSE)

run: ## execute the notebooks and write executed notebooks, report.html and results.json
	@$(RUN) --profile $(PROFILE)

outputs: ## run under the profile laptop, chapters and solutions, and write their outputs back
	@$(RUN) --profile laptop --write-back
	@$(if $(FOLDER),,$(RUN) --folder notebooks/solutions --profile laptop --write-back)

evidence: ## run chapters for several seeds and keep what they show in docs/evidence.json
	@$(COURSE) -m tools.evidence $(if $(CHAPTERS),--chapters $(CHAPTERS)) \
		$(if $(SEEDS),--seeds $(SEEDS)) $(ARGS)

book: ## make the site book/ from the committed notebooks, offline
	@$(COURSE) -m tools.book $(if $(OUT),--out $(call one,$(OUT)))

test: ## run all tests
	@$(COURSE) -m pytest tests -n 2 --dist worksteal --durations=15

test-fast: ## run the tests that execute no whole notebook, in about 3 minutes
	@$(COURSE) -m pytest tests -m "not slow" -n 2 --dist worksteal --durations=15

bench: ## measure training and evaluation speed
	@$(COURSE) -m benchmarks $(ARGS)

lab: ## open JupyterLab in notebooks/
	@$(COURSE) -m jupyter lab notebooks

colab: ## regenerate colab/ and the README's table from notebooks/
	@$(COURSE) -m tools.colab
	@$(COURSE) -m tools.readme

lint: ## check the code's style
	@$(COURSE) -m ruff check .
	@$(COURSE) -m ruff format --check .
