# The commands people type; the build itself is CMake's (CMakePresets.json). `make` alone lists them.
JOBS ?= $(shell nproc)
FUZZ_SECONDS ?= 60
CTEST = ctest --progress --output-on-failure --no-tests=error -j$(JOBS)
SOURCES = git ls-files --cached --others --exclude-standard -- '*.cc' '*.h' '*.cu' '*.cuh'

.PHONY: help demo serve test test-fast build bench asan tsan format format-check tidy lint fuzz clean setup setup-tests
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

demo: setup build/release/build.ninja ## install, build and generate text with the embedded model on several ranks
	cmake --build --preset release -j$(JOBS)
	build/release/shoal generate models/shoal-tiny --config examples/wide_ep.yaml --prompts examples/demo_prompts.json --max-tokens 48

build: setup build/release/build.ninja ## the release program: build/release/shoal
	cmake --build --preset release -j$(JOBS)

serve: setup build/release/build.ninja ## build, and serve the embedded model on several ranks at http://127.0.0.1:8000
	cmake --build --preset release -j$(JOBS) --target shoal
	build/release/shoal serve models/shoal-tiny --config examples/wide_ep.yaml

test: setup-tests build/dev/build.ninja ## install, build and run every test: the fast ones, then the slow ones
	cmake --build --preset dev -j$(JOBS)
	cd build/dev && $(CTEST) -LE slow
	cd build/dev && $(CTEST) --no-tests=ignore -L slow

test-fast: setup-tests build/dev/build.ninja ## the fast tests only
	cmake --build --preset dev -j$(JOBS)
	cd build/dev && $(CTEST) -LE slow

asan: setup-tests build/asan/build.ninja ## the short list of tests/sanitize.txt under AddressSanitizer and UBSan
	cmake --build --preset asan -j$(JOBS) --target sanitize_programs
	cd build/asan && $(CTEST) -L sanitize

tsan: setup-tests build/tsan/build.ninja ## the same list under ThreadSanitizer
	cmake --build --preset tsan -j$(JOBS) --target sanitize_programs
	cd build/tsan && $(CTEST) -L sanitize

bench: build/bench/build.ninja ## build and run the benchmarks
	tools/setup --bench
	cmake --build --preset bench -j$(JOBS)
	for program in build/bench/bench/*_bench; do $$program || exit 1; done

fuzz: build/fuzz/build.ninja ## build the fuzzers and run each for FUZZ_SECONDS (60)
	cmake --build --preset fuzz -j$(JOBS)
	tools/run_fuzzers build/fuzz $(FUZZ_SECONDS)

format: ## apply clang-format
	tools/setup --lint
	$(SOURCES) | xargs -r clang-format -i

format-check:
	tools/setup --lint
	$(SOURCES) | xargs -r clang-format --dry-run --Werror

tidy: build/dev/build.ninja
	tools/setup --tests --lint
	tools/tidy build/dev $(JOBS)

lint: format-check tidy ## formatting, clang-tidy, include directions and sizes
	tools/check_layers
	tools/check_sizes

clean: ## remove everything that was built
	rm -rf build

setup:
	@tools/setup

setup-tests:
	@tools/setup --tests

build/%/build.ninja: CMakePresets.json
	@tools/setup $(if $(filter dev asan tsan,$*),--tests) $(if $(filter bench,$*),--bench) $(if $(filter fuzz,$*),--fuzz)
	cmake --preset $* && touch $@
