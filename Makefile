# make demo    build a demo repository, run the pipeline on it, show the comparison
# make test    run all tests
# make decam   the same on nine real DECam exposures, found in $(ACN_TEST_DATA)/decam_field
# make inject  after that, sources injected into them: the table and the figure of the guide, into doc/
# make bench   measure the engine and its peers on simulated stacks (half an hour; BENCH_ARGS=--quick: minutes)
# make doc     build the user guide, doc/_build/html
# make lint    check the style
# make clean   remove what the others made, but not .venv
#
# Each of them first makes .venv with everything installed (some minutes, once). Variables: PYTHON (the Python to
# make .venv from), VENV (where to make it), TEST_JOBS and TEST_ARGS (for pytest), BENCH_ARGS (for the benchmark),
# DEMO (folder of the demo) and DEMO_ARGS (for acn demo).

.PHONY: demo decam inject test bench doc lint clean install

VENV = .venv
DEMO = demo
DEMO_ARGS =
TEST_JOBS = 2
TEST_ARGS =
BENCH_ARGS =
ACN_TEST_DATA ?= ../shared/data

BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed
REPO = $(DEMO)/repo
PATCH = skymap='hsc_rings_demo' AND tract=9813 AND patch=40 AND band='i'
PIPETASK = $(BIN)/pipetask run -n 2 -b $(REPO) -i HSC/defaults --register-dataset-types

install: $(INSTALLED)

$(INSTALLED): pyproject.toml
	@if test -x $(BIN)/pip; then \
	    PYTHON=$(BIN)/python .ci/find_python >/dev/null || { echo "Remove $(VENV) and try again." >&2; exit 1; }; \
	else \
	    python=$$(.ci/find_python) || exit 1; \
	    echo "Making $(VENV) with $$python"; \
	    "$$python" -m venv $$(test ! -e $(VENV)/pyvenv.cfg || echo --clear) $(VENV); \
	fi
	@echo "Installing into $(VENV): the first time about 6.5 GB, and 8 GB while it lasts (torch brings its CUDA libraries), some minutes"
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[test]'
	@touch $(INSTALLED)

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadfile $(TEST_ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

# Warnings of the build are errors; those of Python are about libraries of the theme. All pages are read anew (-E):
# some are made of the code, which Sphinx does not watch.
doc: $(INSTALLED)
	PYTHONWARNINGS=ignore::DeprecationWarning $(BIN)/python -m sphinx -E -W --keep-going -q -b html -d doc/_build/trees doc doc/_build/html
	@echo "See doc/_build/html/index.html"

# All peers on the scenes of the set that judges, or on some of the other set with BENCH_ARGS=--quick. STARRED, one of
# the peers, comes with the extra "bench".
bench: $(INSTALLED)
	@$(BIN)/python -c 'import starred' 2>/dev/null || $(BIN)/python -m pip install -qq --editable '.[test,bench]'
	$(BIN)/python -m benchmarks.engine --jobs 2 $(BENCH_ARGS)

# The demo. Each step is made once and then leaves a mark in the repository. An interrupted step is made anew: the
# repository by the command itself, the coadds in a new run, which hides the unfinished one.
demo: $(REPO)/.acn
	@echo "[4/4] deepCoadd, the coadd and the latent image, compared with each other and with the truth"
	@$(BIN)/acn summary $(REPO) --collections u/demo/acn -o $(DEMO)
	@$(BIN)/acn report --quiet $(REPO) --collections u/demo/acn -o $(DEMO)/report.html
	@echo
	@echo "Next:"
	@echo "  $(BIN)/butler query-datasets $(REPO) 'acn_*' --collections u/demo/acn"
	@echo "  $(BIN)/pipetask run -b $(REPO) -i HSC/defaults -o u/demo/mm -p pipelines/acn.yaml \\"
	@echo "      -c assembleAcnCoadd:method=mm -d \"$(PATCH)\""
	@echo "  make clean demo    # the same from the start"

$(REPO)/.exposures: | $(INSTALLED)
	@echo "[1/4] Simulated HSC exposures in a Butler repository"
	$(BIN)/acn demo $(REPO) $(DEMO_ARGS)
	@touch $@

$(REPO)/.mean: | $(REPO)/.exposures
	@echo "[2/4] deepCoadd, the mean, as a repository of processed exposures holds it"
	$(PIPETASK) -o HSC/runs/mean -p pipelines/mean.yaml -d "$(PATCH)"
	@$(BIN)/butler collection-chain $(REPO) HSC/defaults HSC/runs/mean --mode prepend >/dev/null
	@touch $@

$(REPO)/.acn: | $(REPO)/.mean
	@echo "[3/4] AstroClearNet on the same exposures, and the comparison"
	$(PIPETASK) -o u/demo/acn -p pipelines/acn.yaml -c compareAcnCoadd:use_truth=True -d "$(PATCH)"
	@touch $@

# Real exposures: ingested anew each time, all bands by one pipeline each.
RESOURCES = python/lsst/coadd/astroclearnet/resources
FIELD = $(DEMO)/decam
FIELD_DATA = $(ACN_TEST_DATA)/decam_field
FIELD_PIPETASK = $(BIN)/pipetask run -n 2 -b $(FIELD)/repo --register-dataset-types

decam: $(INSTALLED)
	@test -d $(FIELD_DATA) || { echo "There is no $(FIELD_DATA): set ACN_TEST_DATA to its parent." >&2; exit 1; }
	rm -rf $(FIELD)
	@mkdir -p $(FIELD)
	$(BIN)/acn ingest $(RESOURCES)/ingest/decam_field.yaml $(FIELD)/repo --data-root $(FIELD_DATA)
	$(FIELD_PIPETASK) -i DECam/defaults -o DECam/runs/mean -p pipelines/mean.yaml
	$(FIELD_PIPETASK) -i DECam/runs/mean,DECam/defaults -o u/demo/acn -p pipelines/acn.yaml
	@$(BIN)/acn summary $(FIELD)/repo --collections u/demo/acn -o $(FIELD)
	@$(BIN)/acn report --quiet $(FIELD)/repo --collections u/demo/acn -o $(FIELD)/report.html

# What the engine makes of sources of known fluxes on these exposures. The coadds of before must be of the same engine.
INJECT = $(FIELD)/repo -i u/demo/acn,DECam/runs/mean,DECam/defaults

inject: $(INSTALLED)
	@test -d $(FIELD)/repo/u/demo/acn || { echo "There is no $(FIELD)/repo: run make decam first." >&2; exit 1; }
	$(BIN)/python -m benchmarks.injection $(INJECT) --where "skymap='decam_field'" --data "the DECam field" --doc doc

clean:
	rm -rf $(DEMO) doc/_build doc/py-api build dist .pytest_cache .ruff_cache .sconf_temp .sconsign.dblite config.log tests/.tests
	find python tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
