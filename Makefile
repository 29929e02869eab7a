# `make demo` and `make test` set up all they need in .venv; nothing has to be done before.

PYTHON ?= python3
BIN := .venv/bin
# written when everything is installed, so that an interrupted installation is taken up again
INSTALLED := .venv/installed

.DEFAULT_GOAL := help
.PHONY: help demo test lint format mutants methods-table results bench viewer clean reliability fuzz soak

help:
	@echo "make demo    the main job on an embedded default; writes demo/"
	@echo "make test    all checks and tests"
	@echo "make lint    the checks alone"
	@echo "make format  lets ruff mend what it can"
	@echo "make mutants plants known faults and sees whether the tests catch each"
	@echo "make methods-table DATA=FOLDER  one update by every method on real data; writes docs/methods/table.md"
	@echo "make results  the pages of docs/results, from the records in benchmarks/records"
	@echo "make bench   speed and memory beside others; writes docs/performance-table.md (SHORT=1: some 3 minutes)"
	@echo "make viewer  fetches NiiVue, the viewer of volumes in reports, with npm"
	@echo "make reliability  lets faults happen at every moment of every command; writes docs/reliability.md"
	@echo "make fuzz     reads 100,000 hostile files of every kind; writes docs/reliability.md"
	@echo "make soak     updates one release 300 times; writes docs/reliability.md"
	@echo "make clean   removes .venv, demo/ and all caches"

$(INSTALLED): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv (about 2 GB, a few minutes the first time) ..."
	@# -qq: warnings about an index that lacks a package are noise; errors are still shown
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e ".[demo,dev]"
	@touch $@

demo: $(INSTALLED)
	$(BIN)/perdure demo --out demo

lint: $(INSTALLED)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# two jobs of one thread each are faster than one job of two threads
test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 $(PYTEST_ARGS)

# plants known faults one at a time; every one must be caught by a test that passes without it (tens of minutes)
mutants: $(INSTALLED)
	$(BIN)/python tests/mutants.py

format: $(INSTALLED)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

methods-table: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/every_method.py --data $(DATA)

results: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/results.py

# Hours in full; it goes on where it was stopped. SHORT=1, DEVICE=cuda, ONLY=<how a row's name begins>, AGAIN=1,
# DATA=<folder with retina_vessels and cxr_pneumonia>
DEVICE ?= cpu
bench: $(INSTALLED)
	$(BIN)/python benchmarks/speed.py --device $(DEVICE) --form $(if $(SHORT),short,full) $(if $(ONLY),--only $(ONLY)) \
		$(if $(AGAIN),--again) $(if $(DATA),--data $(DATA))

# hours, the first two; disks are mounted for the first, which only root may do
reliability fuzz soak: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/reliability.py $(if $(filter reliability,$@),faults,$@)

# NiiVue draws volumes in reports; it is not ours (BSD 2-Clause) and not in git. Its archive holds no licence file: the
# text beside it is that of its repository at the same release.
NIIVUE := 0.69.0
NIIVUE_SHA256 := 6e9a6a471b428eb3b258a0086beca9187d95e43a781a39e8a519c6da246af485
VIEWER := src/perdure/evidence/report/viewer

viewer: $(VIEWER)/niivue.umd.js

$(VIEWER)/niivue.umd.js: src/perdure/evidence/report/niivue-license.txt
	@command -v npm > /dev/null || { echo "npm is missing; on Debian: apt-get install npm"; exit 1; }
	@rm -rf $(VIEWER).unfinished && mkdir -p $(VIEWER).unfinished
	npm pack --silent --pack-destination $(VIEWER).unfinished @niivue/niivue@$(NIIVUE) > /dev/null
	cd $(VIEWER).unfinished && echo "$(NIIVUE_SHA256)  niivue-niivue-$(NIIVUE).tgz" | sha256sum --check --quiet
	cd $(VIEWER).unfinished && tar -xzf niivue-niivue-$(NIIVUE).tgz package/dist/niivue.umd.js
	@mkdir -p $(VIEWER)
	@cp $< $(VIEWER)/LICENSE
	@# last, so that the file is there only when all of it is
	@mv $(VIEWER).unfinished/package/dist/niivue.umd.js $@ && touch $@
	@rm -rf $(VIEWER).unfinished

clean:
	rm -rf .venv .venv-peers demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -prune -exec rm -rf {} +
