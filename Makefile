# docker-volume-ceph: `make` says what there is to do.

# A tier (unit, doc, protocol, model, loop, ceph, engine, hosts) or a part of a test's name.
T ?=

# A part of the benchmark: control, data, cephfs, catalog or hosts.
B ?=

.PHONY: help try plugin package stop lab lab-stop test check bench soak

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

try: ## a Ceph cluster, a Docker engine and the driver, running on this machine: see a volume follow a container
	@tests/lab/try

plugin: ## the same with the driver as a managed plugin of that engine
	@tests/lab/try plugin

package: ## the Debian package, in target/package
	@tests/lab/packages build package
	cargo build --locked --release
	@rm -rf target/package
	@dist/debian/build target/release/docker-ceph target/package

stop: ## end what `make try`, `make plugin` and `make lab` started, and leave nothing behind
	@tests/lab/hosts stop
	@tests/lab/stop

lab: ## two virtual hosts with a kernel, a Docker engine and the driver each: cut, freeze and kill them
	@tests/lab/lab

lab-stop: ## end what `make lab` started, and leave nothing behind
	@tests/lab/hosts stop

check: ## formatting, clippy, documentation, shell scripts, licences
	@tests/lab/packages build check
	cargo fmt --all -- --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --all-targets --features failpoints -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items
	@tests/lab/check-scripts
	@if cargo deny --version > /dev/null 2>&1; then cargo deny --locked check; \
	else echo 'NOT CHECKED: licences and advisories (cargo-deny is not installed)'; fi

test: ## every test with few repeats; T=ceph runs one tier, T=name the tests with that in their name
	@DOCKER_CEPH_REPEATS=$${DOCKER_CEPH_REPEATS:-few} tests/run $(T)

soak: ## every test with its full number of repeats, virtual hosts with Debian's own kernel (hours)
	@DOCKER_CEPH_REPEATS=$${DOCKER_CEPH_REPEATS:-full} DOCKER_CEPH_KERNEL=$${DOCKER_CEPH_KERNEL:-qemu} tests/run $(T)

bench: ## control calls and I/O beside the same work by hand, a large catalog, moves between hosts; B=catalog: only that part
	@tests/lab/packages build cluster engine bench
	@DOCKER_CEPH_BENCH_PART=$(B) tests/bench/run
