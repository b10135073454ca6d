# Recipes for daily work; `just` lists them. They only call what can be called by hand.

# What this can do.
default:
    @just --list

# Formats all Rust code.
fmt:
    cargo fmt --all

# What CI checks without running anything: formatting, lints, documentation.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    cargo clippy --workspace --test wait_model --test allocations --locked -- -D warnings
    cargo clippy --lib --bins --no-default-features --features jemalloc --locked -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --document-private-items --features testing

# Everything on this machine without a cluster, until Ctrl-C.
dev *ARGUMENTS:
    cargo run --release --locked -- dev {{ ARGUMENTS }}

# All tests; the integration tests run on an API server in memory.
test *ARGUMENTS:
    cargo test --workspace --locked {{ ARGUMENTS }}

# Every interleaving of the threads of a wait, and what the cache allocates: the tests that `test` leaves out.
models *ARGUMENTS:
    cargo test --workspace --locked --test wait_model --test allocations {{ ARGUMENTS }}

# The shape of the workspace: which crate depends on which, no cycles of modules, the size of src/.
architecture *ARGUMENTS:
    tests/architecture.sh {{ ARGUMENTS }}

# The integration tests on a real API server, which is built the first time.
e2e *ARGUMENTS:
    tests/e2e.sh {{ ARGUMENTS }}

# Runs a real API server until Ctrl-C, for trying things by hand.
control-plane KUBECONFIG="target/controlplane/kubeconfig":
    tests/controlplane/build.sh
    tests/controlplane/run.sh --kubeconfig {{ KUBECONFIG }}

# Proves the Helm chart and config/ on a real API server, with helm, which is built the first time.
chart *ARGUMENTS:
    tests/chart/run.sh {{ ARGUMENTS }}

# Checks the Dockerfile as far as that goes without a container engine.
image:
    tests/image.sh

# Writes what is generated: CRDs, the chart's schema, config/rbac and config/manager, tables of the documentation.
generate:
    cargo run --quiet --locked -- crd --output-dir config/crd/bases
    cp config/crd/bases/*.yaml charts/sandbox-manager/crds/
    UPDATE_GENERATED=1 cargo test --quiet --locked --test integration -- readme:: docs::reference chart::files::
    UPDATE_GENERATED=1 tests/chart/run.sh chart::config_folder::config_holds
    UPDATE_GENERATED=1 cargo test --quiet --locked --test allocations
    docs/performance/report.py

# Benchmarks.
bench *ARGUMENTS:
    cargo bench --workspace --locked {{ ARGUMENTS }}

# Licences, sources and known vulnerabilities of all dependencies (needs cargo-deny).
deny:
    cargo deny --locked check

# What goes into a release: target/release/sandbox-manager, which tells the commit that it is built from.
release:
    #!/usr/bin/env bash
    set -euo pipefail
    # jemalloc is compiled for one page size. Kernels for arm64 have pages of 4, 16 or 64 KiB.
    if [[ $(uname -m) == aarch64 ]]; then
        export JEMALLOC_SYS_WITH_LG_PAGE=16
    fi
    export SANDBOX_MANAGER_REVISION=$(git rev-parse HEAD)
    cargo build --release --locked --no-default-features --features jemalloc --bin sandbox-manager

# The software bill of materials of a release as CycloneDX (needs cargo-cyclonedx): target/sandbox-manager.cdx.json.
sbom:
    cargo cyclonedx --format json --spec-version 1.5 --no-default-features --features jemalloc --describe binaries --target x86_64-unknown-linux-gnu
    mv sandbox-manager_bin.cdx.json target/sandbox-manager.cdx.json

# The packaged chart: target/sandbox-manager-VERSION.tgz.
package:
    tests/chart/build.sh
    target/chart/bin/helm package charts/sandbox-manager --destination target

# Everything that CI runs.
ci:
    .ci/run
