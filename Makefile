# make demo    set up, train for 60 seconds on a corpus that needs no network, write a sample, rank sentences
# make test    set up, run the suite
# make slow    set up, run the tests that take several seconds each
# make peers   install the lm-evaluation-harness and llm in .peers, and run the tests with programs of others. They also need
#              chromium, curl and nginx, which the packages of the system contain (Debian: apt-get install chromium curl nginx)
# make lint    set up, ruff and mypy
# make docs    set up, build the documentation in docs/_build, run every example in it
# make wheel   set up, build the package, install it in an empty environment, train, sample, score and export a page with it
# make bench   set up, quality for time on the corpora that need no network

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
READY := $(VENV)/.ready
PEERS := .peers/.installed

.PHONY: demo test slow peers lint docs wheel bench clean
demo: $(INSTALLED)
	mkdir -p .demo
	cd .demo && ../$(BIN)/chargen train python-docs --budget 60s --name demo --force
	cd .demo && ../$(BIN)/chargen sample -m demo --temp 0.8 --length 500 --seed 1 --prompt "The "
	cd .demo && ../$(BIN)/chargen score -m demo \
	  "The method returns a new list." \
	  "The method returns an new list." \
	  "List new a returns method the."

test: $(READY)
	$(BIN)/python -m pytest

slow: $(READY)
	$(BIN)/python -m pytest -m slow

peers: $(READY) $(PEERS)
	TESTS_NEED_EVERYTHING=1 $(BIN)/python -m pytest -m peers

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[docs]"
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	$(BIN)/python -m pytest -m docs

wheel: $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt build twine
	rm -rf dist .wheel
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*
	$(PYTHON) -m venv .wheel
	.wheel/bin/python -m pip install --quiet -c constraints.txt torch
	.wheel/bin/python -m pip install --quiet -c constraints.txt dist/*.whl
	mkdir -p .wheel/run
	cd .wheel/run && ../bin/chargen train python-docs --steps 30 --seed 1 --name wheel
	cd .wheel/run && ../bin/chargen sample -m wheel --length 100 --seed 1
	cd .wheel/run && ../bin/chargen score -m wheel "one sentence" "another"
	cd .wheel/run && ../bin/chargen export page wheel -o installed.html
	cd .wheel/run && ../../$(BIN)/chargen export page wheel -o source.html && cmp source.html installed.html
	cd .wheel/run && ../bin/chargen serve --help | grep 'pip install "chargen\[serve\]"'
	cd .wheel/run && ! ../bin/chargen serve wheel 2> serve.log && grep "pip install 'chargen\[serve\]'" serve.log

bench: $(READY)
	$(BIN)/python -m benchmarks.quality

clean:
	rm -rf $(VENV) .demo .peers .wheel build dist docs/_build *.egg-info

# torch first and by itself: named alone, the pinned build is taken and nothing newer is looked for.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[fast]"
	touch $@

# the packages of development are many; the demo does not wait for them
$(READY): $(INSTALLED)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

# an environment of its own: these programs have many packages, and chargen needs none of them
$(PEERS): constraints.txt constraints-peers.txt
	$(PYTHON) -m venv .peers
	.peers/bin/python -m pip install --quiet -c constraints.txt -c constraints-peers.txt "lm_eval[api]" llm
	touch $@
