# Recipes for daily work; `just` lists them. They only call what can be called by hand.

# What this can do.
default:
    @just --list

# Formats all Rust code.
fmt:
    cargo fmt

# What CI checks without running anything: formatting, lints, documentation.
lint:
    cargo fmt --check
    cargo clippy --all-targets --locked -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked --document-private-items --all-features

# Everything on this machine without a cluster, until Ctrl-C.
dev *ARGUMENTS:
    cargo run --release --locked -- dev {{ ARGUMENTS }}

# All tests; the integration tests run on an API server in memory.
test *ARGUMENTS:
    cargo test --locked {{ ARGUMENTS }}

# The integration tests on a real API server, which is built the first time.
e2e *ARGUMENTS:
    tests/e2e.sh {{ ARGUMENTS }}

# Runs a real API server until Ctrl-C, for trying things by hand.
control-plane KUBECONFIG="target/controlplane/kubeconfig":
    tests/controlplane/build.sh
    tests/controlplane/run.sh --kubeconfig {{ KUBECONFIG }}

# Writes what is generated from code: the CRDs, and the tables of the README.
generate:
    cargo run --quiet --locked -- crd --output-dir config/crd/bases
    UPDATE_README=1 cargo test --quiet --locked --test integration readme

# Benchmarks.
bench *ARGUMENTS:
    cargo bench --locked {{ ARGUMENTS }}

# Licences, sources and known vulnerabilities of all dependencies (needs cargo-deny).
deny:
    cargo deny --locked check

# Everything that CI runs.
ci:
    .ci/run
