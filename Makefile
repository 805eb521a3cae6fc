# make demo   restore a real photo, damaged in four ways, and draw a sheet   [IMAGE=photo.jpg] [LABEL=tulip]
# make prior  train a prior on your photos   PHOTOS=folder [MINUTES=120] [OUT=out/training] [OPTIONS="--size 32"]
# make report measure methods on photos damaged in the paper's 47 ways, and write a page   PHOTOS=folder [OUT=out/report] [OPTIONS="--count 14"]
# make test   run the tests
# make bench  how fast CODE is beside its network, diffusers, KSampler and the authors' code   [OFFICIAL=checkout] [OPTIONS="--profile"]
# make lint   what the tests' machine checks too

PYTHON ?= python3
# the version that was tested; `make TORCH=torch` takes the newest
TORCH ?= torch==2.13.0
# threads that wait must not spin, or other work makes small networks many times slower
export OMP_WAIT_POLICY ?= PASSIVE
MINUTES ?= 120
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo prior report test bench lint clean

demo: $(VENV)/ready
	$(BIN)/confident-ode demo $(if $(IMAGE),"$(IMAGE)") $(if $(LABEL),--label "$(LABEL)") --output out

prior: $(VENV)/ready
	$(BIN)/confident-ode priors train "$(or $(PHOTOS),$(error say which photos: make prior PHOTOS=folder))" --output "$(or $(OUT),out/training)" --minutes $(MINUTES) $(OPTIONS)

report: $(VENV)/ready
	$(BIN)/confident-ode bench "$(or $(PHOTOS),$(error say which photos: make report PHOTOS=folder))" --output "$(or $(OUT),out/report)" --methods cli/report.toml --prior flowers32 --precision auto --count 7 --batch 7 $(OPTIONS)

test: $(VENV)/ready
	$(BIN)/python -m pytest

bench: $(VENV)/ready
	PYTHONPATH=tests $(BIN)/python -m speed.bench $(if $(OFFICIAL),--official "$(OFFICIAL)") $(OPTIONS)

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@

clean:
	rm -rf $(VENV) out build *.egg-info
