GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
IMAGE   ?= dcshealer:latest
CODE    := $(wildcard agent cmd policies remediation)
SHELL   := bash

.DEFAULT_GOAL := help
.PHONY: help build demo test test-short matrix bench lint image clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

build: ## bin/dcshealer, static
	@CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-X main.version=$(VERSION)' -o bin/dcshealer ./cmd/dcshealer

demo: build ## a real fleet on this machine, broken and healed (DEMO_ARGS=--keep stays up)
	@.ci/setup server
	@bin/dcshealer demo $(DEMO_ARGS)

test: ## every test: real servers, real containers, faults injected
	@.ci/setup server race engine image browser prometheus
	@.ci/test -shuffle=on -timeout 25m ./...

test-short: ## the tests that need no containers
	@.ci/setup server race
	@CGO_ENABLED=1 $(GO) test -race -p 2 -shuffle=on -short ./...

matrix: ## the container tests on Redis 6.0, 7.0, 8.0 and Valkey 8.1, 9 (MATRIX='6.0 valkey:9')
	@.ci/setup server race engine
	@.ci/matrix $(MATRIX)

bench: ## benchmarks
	@.ci/setup server
	@$(GO) test -p 1 -run xxx -bench . ./...

lint: ## gofmt, go vet, staticcheck, go mod tidy, shellcheck where installed
	@files=$$(gofmt -l $(CODE)) && { test -z "$$files" || { printf 'not gofmt-ed: %s\n' $$files; exit 1; }; }
	@$(GO) vet ./...
	@$(GO) tool staticcheck ./...
	@$(GO) mod tidy -diff
	@if command -v shellcheck >/dev/null; then cd .ci && shellcheck image lib.sh matrix redis-image rootfs.sh run setup sweep test entrypoint.sh; fi

image: ## the operator's container image (IMAGE=dcshealer:latest)
	@.ci/setup engine
	@VERSION=$(VERSION) .ci/image $(IMAGE)

clean: ## remove what the build made
	rm -rf bin
