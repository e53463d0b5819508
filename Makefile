# tulle: build, try and test. As root on Debian or Ubuntu, `make demo` and
# `make test` first install what is missing from the distribution.

VERSION := $(shell cat VERSION)
COMMIT  := $(shell git rev-parse --short=12 HEAD 2>/dev/null)
LDFLAGS := -s -w -X tulle/internal/version.version=$(VERSION) -X tulle/internal/version.commit=$(COMMIT)
GOBUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'

# Where `make install` puts things, below DESTDIR.
SBINDIR := /usr/local/sbin
BINDIR  := /usr/local/bin
CNIDIR  := /opt/cni/bin
UNITDIR := /etc/systemd/system

# What the container image is called; dist/kubernetes/tulle.yaml names it.
IMAGE := localhost/tulle:$(VERSION)

SECONDS_EACH := 5 # of make fuzz

# Tests that need privileges must not skip where the privileges are there.
ifeq ($(shell id -u),0)
export TULLE_REQUIRE_ROOT := 1
export TULLE_REQUIRE_RUNTIME := 1
export TULLE_REQUIRE_VAGRANT := 1
endif

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: build
build: ## build tulled, tulle and tullectl into bin/
	@mkdir -p bin
	@echo "building tulled, tulle and tullectl into bin/"
	@$(GOBUILD) -o bin/tulled ./daemon
	@$(GOBUILD) -o bin/tulle ./cni-shim
	@$(GOBUILD) -o bin/tullectl ./tullectl

.PHONY: setup
setup: ## install what is missing from the distribution (as root)
	@./dist/setup demo test lint

.PHONY: demo
demo: ## set up, build, and run the whole proof in a lab on this machine (as root)
	@./dist/setup demo
	@$(MAKE) --no-print-directory build
	@./bin/tullectl lab run

.PHONY: test
test: ## set up, then run all tests (as root)
	@./dist/setup demo test
	go test -race -parallel 6 -timeout 20m ./...
	go -C dist/tools test ./...

.PHONY: test-systemd
test-systemd: ## set up, then test the packages on hosts that boot with systemd (as root)
	@./dist/setup system
	TULLE_SYSTEM_TEST=1 go test -v -count=1 -timeout 15m ./internal/system

.PHONY: bench
bench: build ## measure one daemon with many peers, and the CNI plugin (as root, some minutes)
	@./dist/setup demo
	go run ./internal/bench/scale -bin bin
	go run ./internal/bench/cni -tulle bin/tulle

.PHONY: fuzz
fuzz: ## fuzz every parser for SECONDS_EACH seconds
	@./dist/fuzz $(SECONDS_EACH)

.PHONY: alerts
alerts: ## test the alerts and the dashboard's queries with promtool (its first build takes minutes)
	@mkdir -p bin
	@echo "building promtool into bin/"
	@cd dist/prometheus/promtool && go build -tags remove_all_sd -o ../../../bin/promtool github.com/prometheus/prometheus/cmd/promtool
	bin/promtool check rules dist/prometheus/alerts.yaml
	bin/promtool test rules dist/prometheus/alerts_test.yaml
	dist/prometheus/queries bin/promtool dist/grafana/tulle.json

.PHONY: lint
lint: ## gofmt, go vet, staticcheck and shellcheck
	@./dist/setup lint
	@out=$$("$$(go env GOROOT)/bin/gofmt" -l .) && test -z "$$out" || { echo "not formatted: $$out"; exit 1; }
	go vet ./...
	go -C dist/tools vet ./...
	go tool staticcheck ./...
	tool=$$(go tool -n staticcheck) && cd dist/tools && "$$tool" ./...
	shellcheck dist/prometheus/queries .ci/run dist/setup dist/fuzz dist/vagrant/*.sh dist/packages dist/package/postinstall dist/package/preremove dist/package/postremove dist/package/cleanup internal/house/testdata/apt-get

.PHONY: image
image: ## make the container image for amd64 and arm64, in dist/out
	@for arch in amd64 arm64; do \
		echo "building for $$arch"; \
		mkdir -p bin/image/$$arch && \
		GOARCH=$$arch $(GOBUILD) -o bin/image/$$arch/tulled ./daemon && \
		GOARCH=$$arch $(GOBUILD) -o bin/image/$$arch/tulle ./cni-shim && \
		GOARCH=$$arch $(GOBUILD) -o bin/image/$$arch/tullectl ./tullectl || exit 1; \
	done
	@mkdir -p dist/out
	@echo "packing dist/out/tulle-$(VERSION)-image.tar"
	@go -C dist/tools run ./image -name $(IMAGE) -version $(VERSION) -revision "$(COMMIT)" \
		-created "$$(git log -1 --format=%ct)" -programs amd64=$(CURDIR)/bin/image/amd64 -programs arm64=$(CURDIR)/bin/image/arm64 \
		-out $(CURDIR)/dist/out/tulle-$(VERSION)-image.tar

.PHONY: install
install: build ## install the programs, the systemd unit and examples of their configuration
	install -D -m 0755 bin/tulled $(DESTDIR)$(SBINDIR)/tulled
	install -D -m 0755 bin/tullectl $(DESTDIR)$(BINDIR)/tullectl
	install -d -m 0755 $(DESTDIR)$(CNIDIR)
	install -m 0755 bin/tulle $(DESTDIR)$(CNIDIR)/.tulle.new
	mv $(DESTDIR)$(CNIDIR)/.tulle.new $(DESTDIR)$(CNIDIR)/tulle
	install -d -m 0755 $(DESTDIR)$(UNITDIR)
	sed 's|/usr/sbin/tulled|$(SBINDIR)/tulled|' dist/tulled.service > $(DESTDIR)$(UNITDIR)/tulled.service
	sed -f dist/tulled@.sed $(DESTDIR)$(UNITDIR)/tulled.service > $(DESTDIR)$(UNITDIR)/tulled@.service
	test -e $(DESTDIR)/etc/default/tulled || install -D -m 0600 dist/tulled.default $(DESTDIR)/etc/default/tulled
	test -e $(DESTDIR)/etc/cni/net.d/10-tulle.conflist || install -D -m 0644 dist/10-tulle.conflist $(DESTDIR)/etc/cni/net.d/10-tulle.conflist

.PHONY: packages
packages: ## make .deb and .rpm packages for amd64 and arm64 in dist/out
	@./dist/packages $(VERSION)

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist/out
