# `make run` and `make test` work on a fresh Debian 12; each target installs what it lacks.
SHELL := /bin/bash
CARGO = export PATH="$$HOME/.cargo/bin:$$PATH" && . scripts/env.sh && cargo

.PHONY: help setup run test sim check deny bench bench-federation bench-partial bench-admin bench-calls bench-turn test-clients test-calls test-turn test-interop test-appservices test-admin test-openapi complement fuzz config endpoints clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /  make \1\t/p' Makefile | expand -t 22

setup: ## install the compiler and libraries that are missing
	@scripts/setup.sh

run: setup ## build with optimisation and run a server at 127.0.0.1:8008, data in ./data
	$(CARGO) run --release --locked -- run $(ARGS)

test: setup ## all tests, and a Rust client's scenario; ARGS="-p rooms redaction" for some tests only
	$(CARGO) test $(or $(ARGS),--workspace) --locked
ifeq ($(ARGS),)
	$(CARGO) build --locked
	@# Its steps have time limits that a busy machine may miss: a run that fails is tried again, twice at most.
	. scripts/env.sh && for try in 1 2 3; do \
	  tests/clients/run.sh rust "$$CARGO_TARGET_DIR/debug/conduit" && exit 0; \
	  echo "try $$try of the Rust client failed"; done; exit 1
endif

sim: setup ## a simulated federation, from many seeds; SEEDS=200, or SEED=17 for one alone; ARGS="quarrels"
	$(CARGO) test --locked --test sim --no-run
	export SEEDS=$(or $(SEEDS),200) $(if $(SEED),SEED=$(SEED)) && $(CARGO) test --locked --test sim $(ARGS)

check: setup ## what CI runs: format, lints, tests, generated files, documentation
	@export PATH="$$HOME/.cargo/bin:$$PATH" && scripts/check.sh

config: setup ## write conduit.toml again, after a change of a configuration struct
	$(CARGO) run --quiet --locked -- config default > conduit.toml.new
	mv conduit.toml.new conduit.toml

endpoints: setup ## write docs/endpoints.md again: what is built, and which test shows it
	@mkdir -p data && rm -f data/endpoints.log
	export ENDPOINT_LOG="$$PWD/data/endpoints.log" && $(CARGO) test --locked -p client_api --test it -- --skip the_list_of
	export ENDPOINT_LOG="$$PWD/data/endpoints.log" UPDATE=1 && $(CARGO) test --locked -p client_api --test it the_list_of

deny: ## licences and known vulnerabilities of dependencies
	@scripts/setup.sh deny
	$(CARGO) deny --locked check

bench: setup ## measure a release build
	$(CARGO) build --release --locked
	. scripts/env.sh && bench/run.sh "$$CARGO_TARGET_DIR/release/conduit" $(ARGS)

bench-federation: setup ## measure a release build with other servers, beside Synapse
	$(CARGO) build --release --locked
	. scripts/env.sh && bench/federation/run.sh "$$CARGO_TARGET_DIR/release/conduit" $(ARGS)

bench-partial: setup ## measure how a release build joins a room of 50,000 members before it knows them
	$(CARGO) build --release --locked --bin conduit
	. scripts/env.sh && bench/federation/partial.sh "$$CARGO_TARGET_DIR/release/conduit"

bench-admin: setup ## measure a release build with an organisation of 10,000 users, as its administrators use it
	$(CARGO) build --release --locked --bin conduit
	. scripts/env.sh && bench/admin/run.sh "$$CARGO_TARGET_DIR/release/conduit"

bench-calls: setup ## measure the media server, beside Janus
	$(CARGO) build --release --locked -p sfu --example bare
	. scripts/env.sh && bench/calls/run.sh "$$CARGO_TARGET_DIR/release/examples/bare" $(ARGS)

bench-turn: setup ## measure the TURN server, beside coturn
	. scripts/env.sh && bench/turn/run.sh

test-clients: ## real clients against a release build; ARGS=js|nio|rust|all
	@scripts/setup.sh clients
	$(CARGO) build --release --locked
	. scripts/env.sh && tests/clients/run.sh $(or $(ARGS),all) "$$CARGO_TARGET_DIR/release/conduit"

test-calls: ## calls of livekit-client, Element Call, aiortc and the webrtc crate; ARGS="level1 --only mute", "ec --only legacy", "firefox", "peers", "networks" or "damage"
	@scripts/setup.sh calls
	$(CARGO) build --release --locked --bin conduit
	$(CARGO) build --release --locked -p sfu --example bare
	. scripts/env.sh && tests/calls/run.sh "$$CARGO_TARGET_DIR/release/conduit" $(ARGS)

test-turn: setup ## coturn's programs against the TURN server
	. scripts/env.sh && tests/turn/run.sh

test-interop: ## federation of a release build with Synapse and with itself; ARGS="--only moderation --versions 12"
	@scripts/setup.sh interop
	$(CARGO) build --release --locked
	. scripts/env.sh && tests/interop/run.sh $(ARGS) "$$CARGO_TARGET_DIR/release/conduit"

test-openapi: ## property tests of the client API against the specification's OpenAPI definitions; ARGS="--only 'get*' --seed 7"
	@scripts/setup.sh openapi
	$(CARGO) build --release --locked
	. scripts/env.sh && tests/openapi/run.sh $(ARGS) "$$CARGO_TARGET_DIR/release/conduit"

test-appservices: ## real application services (heisenbridge with ngircd, an encrypting bot with mautrix) against a release build
	@scripts/setup.sh appservices
	$(CARGO) build --release --locked
	. scripts/env.sh && tests/appservices/run.sh "$$CARGO_TARGET_DIR/release/conduit"

test-admin: ## tools of administrators (synadm, matrix-synapse-admin, a moderation bot, promtool) against a release build; ARGS="--only bot"
	@scripts/setup.sh admin
	$(CARGO) build --release --locked --bin conduit
	. scripts/env.sh && tests/admin/run.sh "$$CARGO_TARGET_DIR/release/conduit" $(ARGS)

complement: ## the acceptance suite against a release build in containers; PACKAGES= RUN= CLEAN=1 ACCEPT=1 (docs/compliance.md)
ifdef BINARY
	complement/run.sh "$(BINARY)"
else
	@scripts/setup.sh
	$(CARGO) build --release --locked
	. scripts/env.sh && complement/run.sh "$$CARGO_TARGET_DIR/release/conduit"
endif

fuzz: setup ## fuzz the parsers, one minute each; SECONDS_EACH=60 ARGS="pdu tokens"
	@export PATH="$$HOME/.cargo/bin:$$PATH" SECONDS_EACH=$(or $(SECONDS_EACH),60) && fuzz/run.sh $(ARGS)

clean: ## remove what was built (not the compiled RocksDB)
	$(CARGO) clean
