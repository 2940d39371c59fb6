# `make help` lists the targets. On a bare machine, `make demo` and `make test` do all the set-up.

# PYTHON: the Python that makes the environments; found when empty. BIN: where the tools are, with a
# slash at the end; on the path when empty.
PYTHON ?=
BIN =
JOBS = 2

# Compiled programs are kept between test runs; the folder is made when it is missing.
COMPILED = JAX_COMPILATION_CACHE_DIR="$(CURDIR)/.cache/jax" JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0.2

# A file's tests stay in one process: what they share compiles once. By number of tests, as xdist sorts
# files, slow ones would come last, and one process wait for the other.
PYTEST = $(BIN)pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

# Compiling is most of what tests do. This takes XLA half the time, for programs that run slower.
QUICKLY = XLA_FLAGS="--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0"

# Many processes read the same modules, so that their byte code is kept, whatever the caller's environment says.
export PYTHONDONTWRITEBYTECODE =

.PHONY: help demo test check lint types imports tests optimised-tests quick-tests fast-tests docs bench clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

demo: .venv/installed ## install into .venv, run hypercausal-depth, write its report
	@run="runs/demo-$$(date +%Y%m%d-%H%M%S)" && \
	.venv/bin/hardgrad run hypercausal-depth --out "$$run" && \
	.venv/bin/hardgrad report "$$run" && \
	test -s "$$run/report.html" && \
	printf '\nOpen the report in a browser:\n%s\n' "$(CURDIR)/$$run/report.html"

.venv/installed: pyproject.toml constraints.txt
	python=$$(sh tools/find_python.sh "$(PYTHON)") && "$$python" -m venv --clear .venv
	.venv/bin/python -m pip install --quiet -c constraints.txt -e '.[plots]'
	@touch .venv/installed

test: ## every check, in a fresh environment .venv-test; what CI runs
	python=$$(sh tools/find_python.sh "$(PYTHON)") && "$$python" -m venv --clear .venv-test
	.venv-test/bin/python -m pip install --quiet -c constraints.txt -e '.[dev,docs,plots,tensorboard,data,onnx,evolution,nir]'
	$(MAKE) -k -j2 -O BIN=.venv-test/bin/ lint types imports docs; checked=$$?; \
	$(MAKE) -k BIN=.venv-test/bin/ tests && exit $$checked

check: lint types imports fast-tests ## the fast checks, with the tools of the current environment

lint: ## style: ruff
	$(BIN)ruff check .
	$(BIN)ruff format --check .

types: ## types: mypy --strict
	$(BIN)mypy --strict src

imports: ## who may import whom: import-linter
	PYTHONPATH=src $(BIN)lint-imports --no-cache

tests: optimised-tests quick-tests ## tests and doctests: pytest

optimised-tests: ## those of the published run, of bits and of long runs, compiled as users compile
	$(COMPILED) $(PYTEST) -m optimised $$(grep -rl --include='*.py' 'mark[.]optimised' tests)

quick-tests: ## all others, compiled quickly
	$(COMPILED) $(QUICKLY) $(PYTEST) -m "not optimised"

fast-tests: ## tests but the slow ones, and but those of optimised-tests
	$(COMPILED) $(QUICKLY) $(PYTEST) -m "not slow and not optimised"

docs: ## build the documentation strictly and check that every public name is in it
	NO_MKDOCS_2_WARNING=1 $(BIN)mkdocs build --strict
	$(BIN)python tools/check_docs.py --site site

bench: ## measure speed; prints a table
	$(COMPILED) PYTHONPATH=src $(BIN)python benchmarks/run.py

clean: ## remove environments, caches and built files; runs/ stays
	rm -rf .venv .venv-test .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist site
	find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
