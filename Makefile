# Everything that is needed is installed by the targets themselves: Go modules
# by go, the local ClickHouse engine by npm. `make help` lists the targets.

GO        ?= go
BIN       := bin
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS   := -s -w -X main.version=$(VERSION)
GOBUILD   := CGO_ENABLED=0 $(GO) build -trimpath -ldflags "$(LDFLAGS)"
TESTFLAGS ?=
PKGS      ?= ./...
GOLANGCI  := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.12.2

export QUNFA_LOCALENGINE := $(CURDIR)/$(BIN)/localengine

.PHONY: help build demo up test test-race test-containers test-compose test-alerts chaos fuzz bench lint fmt clean FORCE

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build all programs into bin/
	@echo "building into $(BIN)/ (the first time, Go downloads the modules)"
	@mkdir -p $(BIN)
	@$(GOBUILD) -o $(BIN)/ ./cmd/...

demo: build ## run everything against a simulated WeChat and compare the figures with its ledger
	@$(BIN)/qunfa demo $(DEMOFLAGS)

up: build ## run everything on this machine for real accounts: qunfa.yaml says which
	@$(BIN)/qunfa up --config $(or $(CONFIG),qunfa.yaml)

test: build ## run all tests on the embedded broker and the real ClickHouse engine
	@$(BIN)/qunfa engine install
	@echo "go vet"
	@$(GO) vet ./...
	@echo "go test: a line per package as it ends, a few minutes in all"
	@$(GO) test -timeout 10m $(TESTFLAGS) $(PKGS)

test-race: build ## the same tests under the race detector (needs a C compiler)
	@$(BIN)/qunfa engine install
	@CGO_ENABLED=1 $(GO) test -race -timeout 20m $(TESTFLAGS) $(PKGS)

test-containers: build ## the integration tests on Apache Kafka and ClickHouse in containers (needs Docker)
	@$(GO) test -v -count=1 -timeout 15m $(TESTFLAGS) -tags containers ./test/containers

test-compose: ## bring the compose deployment up, use it and restart its parts (needs Docker)
	@$(GO) test -v -count=1 -timeout 20m $(TESTFLAGS) -tags compose ./test/compose

test-alerts: build ## check the alert rules, and provoke the alerts on a running pipeline
	@$(BIN)/qunfa engine install
	@$(GO) test -v -count=1 -timeout 15m $(TESTFLAGS) -tags prom ./test/prometheus

chaos: ## faults under load, compared with the truth; CHAOS_FOR=5m CHAOS_SEED=… CHAOS_WORLD=all (cluster needs Docker)
	@case "$(or $(CHAOS_WORLD),all)" in cluster) run=TestCluster ;; embedded) run=TestEmbedded ;; all) run='TestCluster|TestEmbedded' ;; \
	  *) echo "CHAOS_WORLD is cluster, embedded or all"; exit 2 ;; esac; \
	CHAOS_FOR="$(CHAOS_FOR)" CHAOS_SEED="$(CHAOS_SEED)" CHAOS_RATE="$(CHAOS_RATE)" \
	  $(GO) test -v -count=1 -timeout 0 $(TESTFLAGS) -tags chaos -run "$$run" ./test/chaos

fuzz: ## fuzz every boundary that takes bytes from outside, FUZZTIME (default 30s) each
	@GO="$(GO)" FUZZTIME="$(or $(FUZZTIME),30s)" ./test/fuzz.sh

bench: ## run the benchmarks
	@$(GO) test -run '^$$' -bench . -benchmem ./internal/events ./internal/kafka ./internal/config ./internal/ingest ./internal/reconcile ./internal/clickhouse ./internal/app

lint: ## formatting, go vet and golangci-lint
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo "run make fmt"; exit 1; }
	@$(GO) vet ./...
	@$(GO) run $(GOLANGCI) run ./...

fmt: ## format the Go code
	@gofmt -w $$(git ls-files '*.go')

clean: ## remove what was built, and the demo's data
	@rm -rf $(BIN) qunfa-demo
