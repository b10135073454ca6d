#!/usr/bin/env bash
#
# Runs the official E2B SDKs against the E2B API; see usage below.

set -euo pipefail

versions=(2.8.1 2.24.0 2.50.0 2.53.1 2.63.0)

usage() {
    cat <<'USAGE'
Usage: tests/e2b/run.sh [--binary FILE] [VERSION...]

Installs each VERSION of the Python package `e2b` from PyPI into a virtual environment of its own, and runs
tests/e2b/contract.py with it against `sandbox-manager dev`. Without a VERSION: the oldest and the newest, and those
between them at which the SDK changed.

  --binary FILE   the binary to run; default: it is built

If E2B_API_URL and E2B_API_KEY are set, nothing is started, and the server there is tested. TPL names its template, and
OTHER_KEY is another key of it.

Environments are kept in ${XDG_CACHE_HOME:-~/.cache}/sandbox-manager-e2b. Needs Python 3.10 and the network.
USAGE
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
binary=
while (($#)); do
    case $1 in
        -h | --help)
            usage
            exit 0
            ;;
        --binary)
            binary=$(realpath "$2")
            shift 2
            ;;
        -*)
            usage >&2
            exit 2
            ;;
        *) break ;;
    esac
done
if (($#)); then
    versions=("$@")
fi

folder=$(mktemp -d)
server=
cleanup() {
    if [[ -n $server ]]; then
        kill -INT "$server" 2>/dev/null || true
        wait "$server" || true
    fi
    rm -rf "$folder"
}
trap cleanup EXIT

start_dev() {
    if [[ -z $binary ]]; then
        cargo build --locked --manifest-path "$root/Cargo.toml"
        binary=${CARGO_TARGET_DIR:-$root/target}/debug/sandbox-manager
    fi
    "$binary" dev --metrics-bind-address=127.0.0.1:0 --health-probe-bind-address=127.0.0.1:0 \
        --e2b-bind-address=127.0.0.1:0 >"$folder/banner" 2>"$folder/log" &
    server=$!
    local waited=0
    until grep -q 'readyz?verbose' "$folder/banner"; do
        if ! kill -0 "$server" 2>/dev/null || ((waited++ > 600)); then
            cat "$folder/log" >&2
            echo "sandbox-manager dev is not ready" >&2
            exit 1
        fi
        sleep 0.1
    done
    # Exactly what the banner tells users to type.
    eval "$(grep -E '^ +export (E2B_|KUBECONFIG=)' "$folder/banner")"
    OTHER_KEY=$("$binary" e2b create-key --team default --system-namespace sandbox-system \
        --kubeconfig "$KUBECONFIG")
    export OTHER_KEY TPL=code-interpreter
}

if [[ -z ${E2B_API_URL:-} || -z ${E2B_API_KEY:-} ]]; then
    start_dev
fi
# Nobody listens there: a call to a sandbox itself fails at once.
export E2B_DOMAIN=${E2B_DOMAIN:-127.0.0.1:1}
unset E2B_DEBUG E2B_SANDBOX_URL

failed=()
for version in "${versions[@]}"; do
    environment=${XDG_CACHE_HOME:-$HOME/.cache}/sandbox-manager-e2b/$version
    if [[ ! -x $environment/bin/python ]]; then
        python3 -m venv "$environment"
    fi
    "$environment/bin/pip" install --quiet --disable-pip-version-check "e2b==$version"
    if ! "$environment/bin/python" "$root/tests/e2b/contract.py"; then
        failed+=("$version")
    fi
done
if ((${#failed[@]})); then
    tail -n 20 "$folder/log" >&2 2>/dev/null || true
    echo "failed: ${failed[*]}" >&2
    exit 1
fi
