# Recipes for daily work. `just` lists the recipes. Every recipe calls commands that also work by hand.

# List the recipes.
default:
    @just --list

# Format all Rust code.
fmt:
    cargo fmt --all

# Check formatting, lints and documentation, as CI does.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    cargo clippy --workspace --test lock_model --test wait_model --test allocations --locked -- -D warnings
    cargo clippy --lib --bins --no-default-features --features jemalloc --locked -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --document-private-items --features testing

# Run an in-memory API server, a sample fleet and the manager until Ctrl-C.
dev *ARGUMENTS:
    cargo run --release --locked -- dev {{ ARGUMENTS }}

# Run all tests. The integration tests use the in-memory API server.
test *ARGUMENTS:
    cargo test --workspace --locked {{ ARGUMENTS }}

# Every interleaving of the threads of a lock and of a wait, and what the cache allocates: the tests that `test` leaves out.
models *ARGUMENTS:
    cargo test --workspace --locked --test lock_model --test wait_model --test allocations {{ ARGUMENTS }}

# The shape of the workspace: which crate depends on which, no cycles of modules, the size of src/.
architecture *ARGUMENTS:
    tests/architecture.sh {{ ARGUMENTS }}

# Run the integration tests on a real API server, which the first run builds.
e2e *ARGUMENTS:
    tests/e2e.sh {{ ARGUMENTS }}

# Run the official E2B SDKs, five versions of them, against the E2B API: `just sdk --server real` on a real API server.
sdk *ARGUMENTS:
    tests/e2b/run.sh {{ ARGUMENTS }}

# Change 5,000 objects on a real API server under random faults, and check that nothing is lost or wrong.
soak MINUTES="20":
    TEST_SOAK_MINUTES={{ MINUTES }} tests/e2e.sh soak:: --nocapture

# Run a real API server until Ctrl-C, to try things by hand.
control-plane KUBECONFIG="target/controlplane/kubeconfig":
    tests/controlplane/build.sh
    tests/controlplane/run.sh --kubeconfig {{ KUBECONFIG }}

# The same with controllers, a scheduler and four nodes, on which pods become ready at once.
cluster KUBECONFIG="target/controlplane/kubeconfig":
    tests/controlplane/build.sh --nodes
    tests/controlplane/run.sh --nodes 4 --kubeconfig {{ KUBECONFIG }}

# Test the Helm chart and config/ on a real API server. The first run builds both.
chart *ARGUMENTS:
    tests/chart/run.sh {{ ARGUMENTS }}

# Check the Dockerfile without a container engine.
image:
    tests/image.sh

# Write all generated files: CRDs, the schema of the chart, config/rbac, config/manager, tables of the documentation.
generate:
    cargo run --quiet --locked -- crd --output-dir config/crd/bases
    cp config/crd/bases/*.yaml charts/sandbox-manager/crds/
    UPDATE_GENERATED=1 cargo test --quiet --locked --test integration -- readme:: docs::reference chart::files::
    UPDATE_GENERATED=1 tests/chart/run.sh chart::config_folder::config_holds
    UPDATE_GENERATED=1 cargo test --quiet --locked --test allocations
    docs/performance/report.py

# Run the benchmarks.
bench *ARGUMENTS:
    cargo bench --workspace --locked {{ ARGUMENTS }}

# Check licences, sources and known vulnerabilities of all dependencies (needs cargo-deny).
deny:
    cargo deny --locked check

# Build the release binary target/release/sandbox-manager, which reports the commit of its sources.
release:
    #!/usr/bin/env bash
    set -euo pipefail
    # jemalloc is compiled for one page size. Kernels for arm64 have pages of 4, 16 or 64 KiB.
    if [[ $(uname -m) == aarch64 ]]; then
        export JEMALLOC_SYS_WITH_LG_PAGE=16
    fi
    export SANDBOX_MANAGER_REVISION=$(git rev-parse HEAD)
    cargo build --release --locked --no-default-features --features jemalloc --bin sandbox-manager

# Write the software bill of materials as CycloneDX (needs cargo-cyclonedx): target/sandbox-manager.cdx.json.
sbom:
    cargo cyclonedx --format json --spec-version 1.5 --no-default-features --features jemalloc --describe binaries --target x86_64-unknown-linux-gnu
    mv sandbox-manager_bin.cdx.json target/sandbox-manager.cdx.json

# Package the chart: target/sandbox-manager-VERSION.tgz.
package:
    tests/chart/build.sh
    target/chart/bin/helm package charts/sandbox-manager --destination target

# Run everything that CI runs.
ci:
    .ci/run
