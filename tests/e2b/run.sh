#!/usr/bin/env bash
#
# Runs the official E2B SDKs against the E2B API; see usage below.

set -euo pipefail

# The oldest and the newest, and those between them at which the SDK changed.
versions=(2.8.1 2.24.0 2.50.0 2.53.1 2.63.0)
readonly validator_version=0.9.0

usage() {
    cat <<'USAGE'
Usage: tests/e2b/run.sh [--server dev|real] [--binary FILE] [VERSION...]

Installs each VERSION of the Python package `e2b` from PyPI into a virtual environment of its own, and runs
tests/e2b/contract.py with it on a server that this script starts and ends. Without a VERSION: 2.8.1, 2.24.0, 2.50.0,
2.53.1 and 2.63.0. Then checks the OpenAPI document of the server with the package `openapi-spec-validator`.

  --server dev    `sandbox-manager dev`, on the in-memory API server (default)
  --server real   the binary on a real control plane, with the lifecycle controllers and the E2B API: etcd,
                  kube-apiserver, kube-controller-manager, kube-scheduler, and kwok, which plays the nodes. What is
                  missing is built by tests/controlplane/build.sh --nodes (about ten minutes)
  --binary FILE   the binary to run; default: it is built
  --help          print this text

Needs Python 3.10 with venv, kubectl, and the network for what is not installed yet. Environments are kept in
${XDG_CACHE_HOME:-~/.cache}/sandbox-manager-e2b, and nothing else is left behind.

Environment:
  KUBEBUILDER_ASSETS   directory with the programs of the control plane, used instead of building them
  E2B_API_URL, E2B_API_KEY
                       if both are set: nothing is started, and the server there is tested. TPL names a template of it
                       (default: code-interpreter), TEAM its namespace (default: default), and OTHER_KEY is another
                       key of the same team

Exit code: 0 if every VERSION and the document pass, 1 if one fails or the server does not start, 2 for bad arguments.
USAGE
}

say() {
    printf 'e2b: %s\n' "$*" >&2
}

die() {
    say "error: $*"
    exit 1
}

bad_arguments() {
    say "error: $*; see --help"
    exit 2
}

# How long a start may take, in seconds.
readonly start_deadline=180
readonly system_namespace=sandbox-system
# The number of sandboxes that the pool keeps ready: fewer than contract.py creates at once.
readonly pool_size=20

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
binary=
server=

parse_arguments() {
    while (($#)); do
        case $1 in
            -h | --help)
                usage
                exit 0
                ;;
            --binary | --server)
                (($# > 1)) || bad_arguments "$1 needs a value"
                set_option "$1" "$2"
                shift 2
                ;;
            -*) bad_arguments "unknown option: $1" ;;
            *) break ;;
        esac
    done
    local version
    for version in "$@"; do
        [[ $version =~ ^[0-9]+(\.[0-9]+)+$ ]] || bad_arguments "$version is no version such as 2.63.0"
    done
    if (($#)); then
        versions=("$@")
    fi
    if [[ -n ${E2B_API_URL-} && -n ${E2B_API_KEY-} && -n $server$binary ]]; then
        bad_arguments 'with E2B_API_URL and E2B_API_KEY nothing is started, so --server and --binary say nothing'
    fi
}

set_option() {
    case $1 in
        --binary)
            [[ -x $2 && ! -d $2 ]] || bad_arguments "--binary $2: no such program"
            binary=$(realpath "$2")
            ;;
        --server)
            [[ $2 == dev || $2 == real ]] || bad_arguments "--server $2: expected dev or real"
            server=$2
            ;;
    esac
}

# ------------------------------------------------------------------------------------------------- processes

folder=
manager=
control_plane=
# The standard input of the control plane, which runs until it is closed.
commands=

clean_up() {
    local status=$? log
    trap '' INT TERM HUP
    if ((status != 0)); then
        for log in control-plane manager; do
            if [[ -s $folder/$log.log ]]; then
                say "the end of the log of the ${log/-/ }:"
                tail -n 20 "$folder/$log.log" >&2
            fi
        done
    fi
    if [[ -n $manager ]]; then
        kill -TERM "$manager" 2>/dev/null || true
        wait "$manager" 2>/dev/null || true
    fi
    if [[ -n $commands ]]; then
        exec {commands}>&-
    fi
    if [[ -n $control_plane ]]; then
        wait "$control_plane" 2>/dev/null || true
    fi
    rm -rf "$folder"
}

# wait_until WHAT PID COMMAND...: waits until the command succeeds. Fails if the process ends, or at the deadline.
wait_until() {
    local what=$1 process=$2 deadline=$((SECONDS + start_deadline))
    shift 2
    until "$@" >/dev/null 2>&1; do
        kill -0 "$process" 2>/dev/null || die "$what: the process has ended"
        ((SECONDS < deadline)) || die "$what: not within $start_deadline s"
        sleep 0.2
    done
}

build_binary() {
    if [[ -z $binary ]]; then
        cargo build --locked --manifest-path "$root/Cargo.toml"
        binary=${CARGO_TARGET_DIR:-$root/target}/debug/sandbox-manager
    fi
}

start_dev() {
    "$binary" dev --metrics-bind-address=127.0.0.1:0 --health-probe-bind-address=127.0.0.1:0 \
        --e2b-bind-address=127.0.0.1:0 >"$folder/banner" 2>"$folder/manager.log" &
    manager=$!
    wait_until 'sandbox-manager dev is ready' "$manager" grep -q 'readyz?verbose' "$folder/banner"
    # Exactly what the banner tells users to type.
    eval "$(grep -E '^ +export (E2B_|KUBECONFIG=)' "$folder/banner")"
}

start_real() {
    "$root/tests/controlplane/build.sh" --nodes
    start_control_plane
    "$binary" crd apply
    kubectl create namespace "$system_namespace" >/dev/null
    kubectl apply -f "$root/config/samples/sandboxtemplate.yaml" -f "$root/config/samples/sandboxset.yaml" >/dev/null
    start_manager
    E2B_API_KEY=$(create_key)
    export E2B_API_KEY
}

start_control_plane() {
    export KUBECONFIG=$folder/kubeconfig
    mkfifo "$folder/commands"
    "$root/tests/controlplane/run.sh" --nodes 2 --kubeconfig "$KUBECONFIG" \
        <"$folder/commands" >"$folder/control-plane" 2>"$folder/control-plane.log" &
    control_plane=$!
    exec {commands}>"$folder/commands"
    wait_until 'the control plane is ready' "$control_plane" grep -q '^ready ' "$folder/control-plane"
}

start_manager() {
    cat >"$folder/config.yaml" <<YAML
apiVersion: config.agents.kruise.io/v1alpha1
kind: SandboxManagerOptions
systemNamespace: $system_namespace
metrics: {bindAddress: "127.0.0.1:0"}
health: {bindAddress: "127.0.0.1:0"}
lifecycle: {enabled: true}
e2b: {enabled: true, bindAddress: "127.0.0.1:0"}
YAML
    "$binary" --config "$folder/config.yaml" >"$folder/manager.log" 2>&1 {commands}>&- &
    manager=$!
    wait_until 'sandbox-manager listens' "$manager" address e2b
    wait_until 'sandbox-manager is ready' "$manager" answers "http://$(address health)/readyz"
    E2B_API_URL=http://$(address e2b)
    export E2B_API_URL
}

# address LISTENER: prints the address that the log tells.
address() {
    python3 - "$1" "$folder/manager.log" <<'PYTHON'
import json, sys

listener, log = sys.argv[1:]
for line in open(log):
    entry = json.loads(line) if line.startswith("{") else {}
    if entry.get("message") == "listening" and entry.get("listener") == listener:
        print(entry["address"])
        sys.exit()
sys.exit("not there yet")
PYTHON
}

answers() {
    python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)' "$1"
}

create_key() {
    "$binary" e2b create-key --team default --system-namespace "$system_namespace"
}

fill_pool() {
    kubectl scale sandboxset code-interpreter --replicas="$pool_size" >/dev/null
    wait_until 'the pool is full' "$manager" pool_is_full
}

pool_is_full() {
    local available
    available=$(kubectl get sandboxset code-interpreter -o 'jsonpath={.status.availableReplicas}')
    ((available == pool_size))
}

# claimed: prints the sandboxes that somebody has claimed.
claimed() {
    kubectl get sandboxes --all-namespaces --selector agents.kruise.io/sandbox-claimed=true -o name
}

is_released() {
    [[ $(claimed) == "$claimed_before" ]]
}

start_server() {
    build_binary
    "start_$server"
    OTHER_KEY=$(create_key)
    export OTHER_KEY TPL=code-interpreter
    fill_pool
    claimed_before=$(claimed)
}

# ----------------------------------------------------------------------------------------------------- tests

# install PACKAGE VERSION: installs a Python package into `environment`, unless it is installed.
install() {
    local installed='import importlib.metadata as m, sys; sys.exit(m.version(sys.argv[1]) != sys.argv[2])'
    environment=${XDG_CACHE_HOME:-$HOME/.cache}/sandbox-manager-e2b/$1-$2
    if ! "$environment/bin/python" -c "$installed" "$@" 2>/dev/null; then
        python3 -m venv --clear "$environment" || die 'python3 cannot make an environment; on Debian install python3-venv'
        "$environment/bin/pip" install --quiet --disable-pip-version-check "$1==$2" || die "$1 $2 cannot be installed"
    fi
}

parse_arguments "$@"
server=${server:-dev}
command -v python3 >/dev/null || die 'python3 is not on the PATH'

folder=$(mktemp -d)
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# First, because it may need the network.
for version in "${versions[@]}"; do
    install e2b "$version"
done
install openapi-spec-validator "$validator_version"
started=
if [[ -z ${E2B_API_URL-} || -z ${E2B_API_KEY-} ]]; then
    command -v kubectl >/dev/null || die 'kubectl is not on the PATH'
    start_server
    started=yes
fi
# Nobody listens there: a call to a sandbox itself fails at once.
export E2B_DOMAIN=${E2B_DOMAIN:-127.0.0.1:1}
unset E2B_DEBUG E2B_SANDBOX_URL

failed=()
for version in "${versions[@]}"; do
    install e2b "$version"
    if ! "$environment/bin/python" -B "$root/tests/e2b/contract.py"; then
        failed+=("$version")
    elif [[ -n $started ]]; then
        # Nothing that the SDK has created stays claimed, also not what it has never got an answer for.
        wait_until 'every sandbox is released' "$manager" is_released
    fi
done
install openapi-spec-validator "$validator_version"
"$environment/bin/python" -B "$root/tests/e2b/document.py" || failed+=(/openapi.json)
if ((${#failed[@]})); then
    die "failed${started:+ on the $server server}: ${failed[*]}"
fi
say "passed${started:+ on the $server server}: ${versions[*]}"
