# Two commands: `make book` and `make test`. Everything else is in book/rerun.md.
#   make book [PRESET=quick|published|smoke|paper] [JOBS=2] [EXECUTOR=slurm]
#   make train PRESET=...    only the training half
#   VENV=/path               use an environment that exists instead of making .venv
PRESET ?= quick
JOBS ?= 2
EXECUTOR ?= local
PYTHON ?= $(firstword $(foreach p,python3 python3.12 python3.11,$(shell $(p) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $(p))))
SHELL := /bin/bash

ifdef VENV
ENV :=
else
VENV := .venv
ENV := .venv/.installed
endif
BIN := $(abspath $(VENV))/bin
BATCH := exec $(BIN)/python -m peftlib.batch --preset $(PRESET) --jobs $(JOBS) --executor $(EXECUTOR) --parent $$PPID

.PHONY: book train test env clean

book: $(ENV)
	@$(BATCH)

train: $(ENV)
	@$(BATCH) --only train

test: $(ENV)
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false \
	$(BIN)/python -m pytest -n 2 --dist loadscope --nbval-lax --nbval-current-env tests notebooks

env: $(ENV)

clean:
	rm -rf _build

# torch comes first and pinned: left to itself pip may fetch gigabytes of another build.
# The stamp is written last, so that an installation that failed is begun anew.
.venv/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or 3.12 found; name one: make $(MAKECMDGOALS) PYTHON=/path/to/python" >&2; exit 1; }
	@rm -rf .venv
	@echo "making the environment in .venv with $(PYTHON): about two minutes"
	@$(PYTHON) -m venv .venv || { echo "error: $(PYTHON) cannot make environments; on Debian: apt-get install python3-venv" >&2; rm -rf .venv; exit 1; }
	@install() { .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "$$@" && return; \
	  rm -rf .venv; \
	  echo "error: could not install $$*: pip's message is above. If it names no matching version or no connection," >&2; \
	  echo "       the package index is out of reach (see pip's --index-url and --proxy); nothing was left behind." >&2; \
	  exit 1; }; \
	install torch && install -e ".[book,test]"
	@touch $@
