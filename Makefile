# Every command first makes the environment (.venv) or brings it up to date; nothing is
# downloaded when it is. On Windows: python -m tools.run --profile laptop
PROFILE ?= laptop
PYTHON ?= $(or $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	2>/dev/null && echo $$p && break; done),python3)
COURSE = $(PYTHON) -m tools.environment

RUN = $(COURSE) -m tools.run $(if $(CHAPTERS),--chapters $(CHAPTERS)) $(if $(OUT),--out $(OUT)) \
	$(if $(SEED),--seed $(SEED)) $(if $(FOLDER),--folder $(FOLDER)) \
	$(foreach sweep,$(SWEEP),--sweep $(sweep)) $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help env run outputs test bench lab colab lint

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' Makefile
	@echo
	@echo 'make run takes PROFILE=smoke|laptop|gpu  CHAPTERS="03 04"  OUT=folder  SEED=1'
	@echo '               SWEEP="seed=0,1,2"  FOLDER=notebooks/solutions  ARGS=--fresh'

env: ## create the environment .venv from requirements.txt
	@$(COURSE)

run: ## execute the notebooks and write executed notebooks, report.html and results.json
	@$(RUN) --profile $(PROFILE)

outputs: ## run under the profile laptop, chapters and solutions, and write their outputs back
	@$(RUN) --profile laptop --write-back
	@$(if $(FOLDER),,$(RUN) --folder notebooks/solutions --profile laptop --write-back)

test: ## run all tests
	@$(COURSE) -m pytest tests

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
