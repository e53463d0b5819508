# tulle: build, try and test. As root on Debian or Ubuntu, `make demo` and
# `make test` first install what is missing from the distribution.

VERSION := $(shell cat VERSION)
COMMIT  := $(shell git rev-parse --short=12 HEAD 2>/dev/null)
LDFLAGS := -s -w -X tulle/internal/version.version=$(VERSION) -X tulle/internal/version.commit=$(COMMIT)
GOBUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'

# Tests that need privileges must not skip where the privileges are there.
ifeq ($(shell id -u),0)
export TULLE_REQUIRE_ROOT := 1
endif

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

.PHONY: build
build: ## build tulled, tulle and tullectl into bin/
	@mkdir -p bin
	@echo "building tulled, tulle and tullectl into bin/"
	@$(GOBUILD) -o bin/tulled ./daemon
	@$(GOBUILD) -o bin/tulle ./cni-shim
	@$(GOBUILD) -o bin/tullectl ./tullectl

.PHONY: setup
setup: ## install what is missing from the distribution (as root)
	@./dist/setup

.PHONY: demo
demo: setup build ## set up, build, and run the whole proof in a lab on this machine
	@./bin/tullectl lab run

.PHONY: test
test: setup ## set up, then run all tests
	go test -race -timeout 9m ./...

.PHONY: fuzz
fuzz: ## fuzz every parser for a few seconds each
	@./dist/fuzz

.PHONY: lint
lint: ## gofmt, go vet, staticcheck and shellcheck
	@out=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$out" || { echo "not formatted: $$out"; exit 1; }
	go vet ./...
	go tool staticcheck ./...
	shellcheck .ci/run dist/setup dist/fuzz

.PHONY: install
install: build ## install the programs below /usr/local and /opt/cni/bin, and the systemd unit
	install -D -m 0755 bin/tulled $(DESTDIR)/usr/local/sbin/tulled
	install -D -m 0755 bin/tullectl $(DESTDIR)/usr/local/bin/tullectl
	install -D -m 0755 bin/tulle $(DESTDIR)/opt/cni/bin/tulle
	install -D -m 0644 dist/tulled.service $(DESTDIR)/etc/systemd/system/tulled.service
	test -e $(DESTDIR)/etc/default/tulled || install -D -m 0640 dist/tulled.default $(DESTDIR)/etc/default/tulled
	test -e $(DESTDIR)/etc/cni/net.d/10-tulle.conflist || install -D -m 0644 dist/10-tulle.conflist $(DESTDIR)/etc/cni/net.d/10-tulle.conflist

.PHONY: clean
clean: ## remove what was built
	rm -rf bin
