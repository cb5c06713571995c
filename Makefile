# Two commands: `make book` and `make test`. Everything else is in book/rerun.md.
#   make book [PRESET=quick|published|smoke|paper] [JOBS=2] [EXECUTOR=slurm]
#   make train PRESET=...    only the training half
#   make check               before a commit: lint, types, the shape of the house, one method through the matrix, one page
#   VENV=/path               use an environment that exists instead of making .venv
PRESET ?= quick
JOBS ?= 2
EXECUTOR ?= local
PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,$(shell $(p) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null && echo $(p))))
SHELL := /bin/bash

ifdef VENV
ENV :=
else
VENV := .venv
ENV := .venv/.installed
endif
# By the shell's variables: whatever they hold is one argument each.
export PRESET JOBS EXECUTOR VENV
BATCH := exec "$$VENV/bin/python" -m peftlib.batch --preset "$$PRESET" --jobs "$$JOBS" --executor "$$EXECUTOR" --parent $$PPID

.PHONY: book train check test env clean

book: $(ENV)
	@$(BATCH)

train: $(ENV)
	@$(BATCH) --only train

check: $(ENV)
	"$$VENV/bin/python" -m ruff check .
	"$$VENV/bin/python" -m ruff format --check .
	"$$VENV/bin/python" -m mypy
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false "$$VENV/bin/python" -m pytest -q --nbval-lax --nbval-current-env \
	tests/test_house.py tests/test_environment.py tests/test_methods.py notebooks/methods/lora.ipynb \
	-k "house or environment or LoRA or ipynb"

test: $(ENV)
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false \
	"$$VENV/bin/python" -m pytest -n 2 --dist loadscope --no-loadscope-reorder --nbval-lax --nbval-current-env tests notebooks

env: $(ENV)

clean:
	rm -rf _build

.venv/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 to 3.14 found; name one: make $(MAKECMDGOALS) PYTHON=/path/to/python" >&2; exit 1; }
	@exec $(PYTHON) peftlib/batch/install.py
