#!/usr/bin/env bash
#
# Runs a Kubernetes control plane on loopback until the end of standard input; see usage below.
#
# Guarantees: at the end of this script all programs are killed, even if they are paused, and the data directory
# is removed. This holds for the end of input, a signal, and a failed start. A test process holds the other end of
# the input, so the death of that process is the end of input. If setpriv is installed, the kernel kills the
# programs even if this script is killed with SIGKILL.

set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: tests/controlplane/run.sh --kubeconfig PATH [options] [-- KUBE-APISERVER-FLAG...]
       tests/controlplane/run.sh --data-dir DIR [options] [-- KUBE-APISERVER-FLAG...]

Runs a Kubernetes control plane on 127.0.0.1: etcd and kube-apiserver. With --nodes also what makes pods run:
kube-controller-manager, kube-scheduler, and kwok, which plays the nodes. The programs are those in
KUBEBUILDER_ASSETS, else those that tests/controlplane/build.sh has built in target/controlplane/bin.

To try things by hand, use --kubeconfig. The script then writes an administrator's kubeconfig to PATH, prints the
line to paste into another terminal when the control plane is ready, and runs until Ctrl-C. All data is removed at
the end.

Options:
  --kubeconfig PATH      write an administrator's kubeconfig to PATH; removed at the end
  --data-dir DIR         store all data in DIR, which must be new or empty; REMOVED at the end
                         (default: a new temporary directory)
  --nodes N              also run controllers, a scheduler and N nodes, on which pods become ready at once, and the
                         storage class kwok-volume, the default
  --etcd-port PORT       port of etcd           (default: a free port)
  --apiserver-port PORT  port of kube-apiserver (default: a free port)
  --help                 print this text

Commands, one per line on standard input. The end of the input ends both programs and the script:
  stop apiserver      send SIGTERM and wait for the end    kill apiserver      send SIGKILL and wait for the end
  start apiserver     start it again on the same port      pause apiserver     send SIGSTOP and wait for its effect
  resume apiserver    send SIGCONT                         status              print which programs run
  The same commands exist for etcd, and with --nodes for controllers, scheduler and nodes.

Each command is answered by one line on standard output: "ok ..." or "error ...". After each start of
kube-apiserver a second line follows: "ready URL" when /readyz succeeds (the first time, with --nodes, when the
nodes are ready too), or "failed REASON" with the end of the logs on standard error.

The data directory has a kubeconfig for each user: admin.kubeconfig for admin (group system:masters), and
limited.kubeconfig for limited (no group and no permissions). The log of each program is NAME.log.
USAGE
}

say() {
    printf 'control plane: %s\n' "$*" >&2
}

die() {
    say "error: $*"
    exit 1
}

# Maximum time from the start of a program until the program is ready, in seconds.
readonly start_deadline=180
# Maximum time from SIGTERM until a program has ended, in seconds.
readonly stop_deadline=30

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

data=
kubeconfig=
declare -A port=([etcd]='' [apiserver]='')
# The programs that run on the API server, in the order of their start; empty without --nodes.
clients=()
declare -A pid=()
node_count=0
extra_flags=()
# The program whose start is awaited: etcd (first start), apiserver, nodes (first start), or none. And the deadline
# of that start.
phase=
phase_deadline=0
first_start=yes

# ---------------------------------------------------------------------------------------------- arguments

parse_arguments() {
    while (($# > 0)); do
        case $1 in
            -h | --help)
                usage
                exit 0
                ;;
            --)
                shift
                extra_flags=("$@")
                return
                ;;
            --data-dir | --kubeconfig | --nodes | --etcd-port | --apiserver-port)
                (($# > 1)) || die "$1 needs a value, see --help"
                set_option "$1" "$2"
                shift 2
                ;;
            *) die "unknown argument: $1, see --help" ;;
        esac
    done
}

set_option() {
    case $1 in
        --data-dir) data=$2 ;;
        --kubeconfig) kubeconfig=$2 ;;
        --nodes)
            if ! [[ $2 =~ ^[1-9][0-9]{0,3}$ ]]; then
                die "$1 $2: not a number from 1 to 9999"
            fi
            node_count=$2
            clients=(controllers scheduler nodes)
            ;;
        --*-port)
            if ! [[ $2 =~ ^[1-9][0-9]{0,4}$ ]] || (($2 > 65535)); then
                die "$1 $2: not a port"
            fi
            local name=${1#--}
            port[${name%-port}]=$2
            ;;
    esac
}

locate_programs() {
    local option=
    if ((node_count > 0)); then
        option=' --nodes'
        command -v kubectl >/dev/null || die "kubectl is not on the PATH; --nodes needs kubectl to create nodes"
    fi
    bin=$root/target/controlplane/bin
    if has_programs "${KUBEBUILDER_ASSETS-}"; then
        bin=$KUBEBUILDER_ASSETS
    fi
    has_programs "$bin" || die "a program is missing in $bin; build all with tests/controlplane/build.sh$option"
    command -v openssl >/dev/null || die "openssl is not on the PATH; this script needs openssl to create keys"
}

# has_programs DIRECTORY: succeeds if every program that this run needs is there.
has_programs() {
    local program needed=(etcd kube-apiserver)
    if ((node_count > 0)); then
        needed+=(kube-controller-manager kube-scheduler kwok)
    fi
    for program in "${needed[@]}"; do
        [[ -x $1/$program ]] || return 1
    done
    # Without its stages kwok does nothing, and no node would become ready.
    ((node_count == 0)) || [[ -f $1/kwok-stages.yaml ]]
}

# free_port: prints a free port below the range of outgoing connections, so that the port is still free after a
# restart.
free_port() {
    local candidate
    while true; do
        candidate=$((20000 + RANDOM % 12000))
        if ! (: <>"/dev/tcp/127.0.0.1/$candidate") 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
}

# ------------------------------------------------------------------------------------------ data directory

# make_data_dir: creates the data directory. From here on, clean_up removes that directory.
make_data_dir() {
    if [[ -z $data ]]; then
        data=$(mktemp -d "${TMPDIR:-/tmp}/controlplane.XXXXXX")
    else
        if [[ -e $data && -n $(ls -A "$data") ]]; then
            local occupied=$data
            data=
            die "--data-dir $occupied is not empty; this script would remove the directory at the end"
        fi
        mkdir -p "$data"
        data=$(cd "$data" && pwd)
    fi
    chmod 700 "$data"
}

make_keys() {
    (
        umask 077
        cd "$data"
        openssl ecparam -name prime256v1 -genkey -noout -out service-account.key
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
            -subj /CN=sandbox-manager-test -addext 'subjectAltName=IP:127.0.0.1,DNS:localhost' \
            -addext 'basicConstraints=critical,CA:FALSE' -keyout server.key -out server.crt
    ) >"$data/openssl.log" 2>&1 || die "creating the keys failed: $(<"$data/openssl.log")"
    admin_token=$(openssl rand -hex 16)
    limited_token=$(openssl rand -hex 16)
    (
        umask 077
        printf '%s,admin,admin,system:masters\n%s,limited,limited\n' "$admin_token" "$limited_token" >"$data/tokens.csv"
    )
}

# write_kubeconfig PATH USER TOKEN
write_kubeconfig() {
    (
        umask 077
        cat >"$1"
    ) <<YAML
apiVersion: v1
kind: Config
current-context: test
clusters:
- name: test
  cluster:
    server: https://127.0.0.1:${port[apiserver]}
    certificate-authority-data: $(openssl base64 -A -in "$data/server.crt")
users:
- name: $2
  user:
    token: $3
contexts:
- name: test
  context:
    cluster: test
    user: $2
    namespace: default
YAML
}

# ------------------------------------------------------------------------------------------------ programs

# spawn NAME PROGRAM ARGUMENT...: starts a program in a new process group, so that Ctrl-C reaches only this script.
spawn() {
    local name=$1
    shift
    set -m
    "${guard[@]}" "$@" </dev/null >>"$data/$name.log" 2>&1 &
    pid[$name]=$!
    set +m
}

start_etcd() {
    spawn etcd "$bin/etcd" --name default --data-dir "$data/etcd" --unsafe-no-fsync --log-level warn \
        --listen-client-urls "http://127.0.0.1:${port[etcd]}" --advertise-client-urls "http://127.0.0.1:${port[etcd]}" \
        --listen-peer-urls http://127.0.0.1:0 --initial-advertise-peer-urls http://127.0.0.1:0 \
        --initial-cluster default=http://127.0.0.1:0
}

start_apiserver() {
    spawn apiserver "$bin/kube-apiserver" --etcd-servers "http://127.0.0.1:${port[etcd]}" \
        --bind-address 127.0.0.1 --advertise-address 127.0.0.1 --secure-port "${port[apiserver]}" \
        --endpoint-reconciler-type none --cert-dir "$data" \
        --tls-cert-file "$data/server.crt" --tls-private-key-file "$data/server.key" \
        --token-auth-file "$data/tokens.csv" --authorization-mode RBAC \
        --service-account-key-file "$data/service-account.key" \
        --service-account-signing-key-file "$data/service-account.key" \
        --service-account-issuer https://kubernetes.default.svc --service-cluster-ip-range 10.96.0.0/16 \
        --disable-admission-plugins ServiceAccount "${extra_flags[@]}"
    wait_for apiserver
}

# The limits of requests are lifted, because tests measure how fast a pool fills.
readonly unlimited=(--kube-api-qps 5000 --kube-api-burst 10000)

start_controllers() {
    spawn controllers "$bin/kube-controller-manager" --kubeconfig "$data/admin.kubeconfig" --leader-elect=false \
        --bind-address 127.0.0.1 --secure-port 0 --use-service-account-credentials=false \
        --service-account-private-key-file "$data/service-account.key" --root-ca-file "$data/server.crt" \
        --concurrent-gc-syncs 20 "${unlimited[@]}"
}

start_scheduler() {
    spawn scheduler "$bin/kube-scheduler" --kubeconfig "$data/admin.kubeconfig" --leader-elect=false \
        --bind-address 127.0.0.1 --secure-port 0 "${unlimited[@]}"
}

# kwok does for its nodes what a kubelet does. Its stages say how a node, a pod and a volume proceed.
start_nodes() {
    spawn nodes "$bin/kwok" --kubeconfig "$data/admin.kubeconfig" --config "$bin/kwok-stages.yaml" \
        --manage-all-nodes --node-lease-duration-seconds 40
}

# start_clients: starts the programs that run on the API server, and creates the nodes. They become ready later.
start_clients() {
    local name
    for name in "${clients[@]}"; do
        "start_$name"
    done
    nodes_and_storage | administrator create -f - >/dev/null || failed 'creating the nodes failed'
    wait_for nodes
}

administrator() {
    kubectl --kubeconfig "$data/admin.kubeconfig" "$@"
}

nodes_and_storage() {
    local i
    cat <<'YAML'
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: kwok-volume
  annotations:
    storageclass.kubernetes.io/is-default-class: "true"
provisioner: kwok.x-k8s.io/volume
YAML
    for ((i = 0; i < node_count; i++)); do
        cat <<YAML
---
apiVersion: v1
kind: Node
metadata:
  name: node-$i
  labels: {kubernetes.io/hostname: node-$i, kubernetes.io/os: linux, kubernetes.io/arch: amd64}
status:
  allocatable: {cpu: 1k, memory: 4Ti, pods: 100k}
  capacity: {cpu: 1k, memory: 4Ti, pods: 100k}
YAML
    done
}

# nodes_ready: succeeds if every node is ready and has no taint. kube-controller-manager removes the taint.
nodes_ready() {
    local ready
    ready=$(administrator get nodes --request-timeout 5s -o \
        'jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{.spec.taints}{"\n"}{end}' 2>/dev/null |
        grep -cx True) || true
    [[ $ready == "$node_count" ]]
}

wait_for() {
    phase=$1
    phase_deadline=$((SECONDS + start_deadline))
}

alive() {
    [[ -n ${pid[$1]-} ]] && kill -0 "${pid[$1]}" 2>/dev/null
}

# reap NAME: waits until a program has ended, and forgets its pid.
reap() {
    wait "${pid[$1]}" 2>/dev/null || true
    pid[$1]=
}

kill_program() {
    if alive "$1"; then
        kill -KILL -- "-${pid[$1]}" 2>/dev/null || true
        reap "$1"
    fi
}

# terminate NAME: sends SIGTERM. After the deadline sends SIGKILL and returns 1.
terminate() {
    local deadline=$((SECONDS + stop_deadline))
    kill -TERM "${pid[$1]}"
    while alive "$1"; do
        if ((SECONDS >= deadline)); then
            kill_program "$1"
            return 1
        fi
        sleep 0.02
    done
    reap "$1"
}

# pause_program NAME: sends SIGSTOP and waits until every thread is stopped, because the kernel stops the threads one
# after the other. A thread that has just ended has no state.
pause_program() {
    local task state
    kill -STOP "${pid[$1]}"
    for task in /proc/"${pid[$1]}"/task/*; do
        while read -r state 2>/dev/null <"$task/stat" && [[ ${state##*) } != [TtZX]* ]] && alive "$1"; do
            sleep 0.01
        done
    done
}

# clean_up: ends all programs and removes all files. Runs at every exit.
clean_up() {
    local name
    trap '' INT TERM HUP PIPE
    for name in "${clients[@]}" apiserver etcd; do
        kill_program "$name"
    done
    if [[ -n $kubeconfig ]]; then
        rm -f "$kubeconfig"
    fi
    if [[ -n $data ]]; then
        rm -rf "$data"
    fi
}

# ------------------------------------------------------------------------------------------------ readiness

# apiserver_ready: succeeds if /readyz answers 200.
apiserver_ready() {
    local answer
    answer=$(printf 'GET /readyz HTTP/1.0\r\nAuthorization: Bearer %s\r\n\r\n' "$admin_token" |
        timeout 2 openssl s_client -quiet -connect "127.0.0.1:${port[apiserver]}" 2>/dev/null) || true
    [[ $answer == 'HTTP/1.'?' 200 '* ]]
}

etcd_listens() {
    (: <>"/dev/tcp/127.0.0.1/${port[etcd]}") 2>/dev/null
}

# advance: checks once whether the awaited program is ready, has ended, or has reached its deadline.
advance() {
    local name
    for name in $(awaited); do
        if ! alive "$name"; then
            failed "$name ended while it started"
            return
        fi
    done
    case $phase in
        etcd) if etcd_listens; then start_apiserver; fi ;;
        apiserver)
            if ! apiserver_ready; then
                :
            elif [[ $first_start == yes && $node_count != 0 ]]; then
                start_clients
            else
                started
            fi
            ;;
        nodes) if nodes_ready; then started; fi ;;
    esac
    if [[ -n $phase ]] && ((SECONDS >= phase_deadline)); then
        failed "$phase was not ready within $start_deadline s"
    fi
}

# awaited: prints the programs that must run in the present phase of the start.
awaited() {
    case $phase in
        etcd) printf 'etcd\n' ;;
        apiserver) if [[ $first_start == yes ]]; then printf 'etcd\n'; fi; printf 'apiserver\n' ;;
        nodes) printf '%s\n' etcd apiserver "${clients[@]}" ;;
    esac
}

started() {
    phase=
    printf 'ready https://127.0.0.1:%s\n' "${port[apiserver]}"
    if [[ $first_start == yes && -n $kubeconfig ]]; then
        say "ready; press Ctrl-C to end the control plane. In another terminal run:"
        printf 'export KUBECONFIG=%q\n' "$kubeconfig"
    fi
    first_start=no
}

failed() {
    local log
    phase=
    for log in etcd apiserver "${clients[@]}"; do
        if [[ -s $data/$log.log ]]; then
            say "the end of $log.log:"
            tail -n 20 "$data/$log.log" >&2
        fi
    done
    printf 'failed %s\n' "$1"
    if [[ $first_start == yes ]]; then
        exit 1
    fi
}

# ------------------------------------------------------------------------------------------------- commands

# execute LINE: executes a command and prints its answer, which is one line.
execute() {
    local verb name
    read -r verb name <<<"$1"
    case $verb in
        '') return ;;
        status)
            status
            return
            ;;
        stop | kill | start | pause | resume) ;;
        *)
            printf 'error unknown command: %s\n' "$1"
            return
            ;;
    esac
    if [[ -n $name && " etcd apiserver ${clients[*]} " == *" $name "* ]]; then
        signal_or_start "$verb" "$name"
    else
        printf 'error %s needs one of the names: etcd apiserver %s\n' "$verb" "${clients[*]}"
    fi
}

status() {
    local name separator=' '
    printf 'ok'
    for name in etcd apiserver "${clients[@]}"; do
        printf '%s%s %s' "$separator" "$name" "$(state_of "$name")"
        separator=', '
    done
    printf '\n'
}

state_of() {
    if alive "$1"; then
        printf 'runs as process %s' "${pid[$1]}"
    else
        printf 'does not run'
    fi
}

signal_or_start() {
    local verb=$1 name=$2
    if [[ $verb == start ]] && alive "$name"; then
        printf 'error %s runs already\n' "$name"
        return
    elif [[ $verb != start ]] && ! alive "$name"; then
        printf 'error %s does not run\n' "$name"
        return
    fi
    if [[ $name == "$phase" ]]; then
        phase=
    fi
    case $verb in
        start) "start_$name" ;;
        pause) pause_program "$name" ;;
        resume) kill -CONT "${pid[$name]}" ;;
        kill) kill_program "$name" ;;
        stop) if ! terminate "$name"; then
            printf 'error %s did not end within %s s after SIGTERM and was killed\n' "$name" "$stop_deadline"
            return
        fi ;;
    esac
    printf 'ok %s %s\n' "$verb" "$name"
}

# serve: reads commands until the end of input, and calls advance while a start is awaited.
serve() {
    local line='' part status
    while true; do
        status=0
        if [[ -n $phase ]]; then
            read -r -t 0.05 part || status=$?
        else
            read -r part || status=$?
        fi
        line+=$part
        if ((status == 0)); then
            execute "$line"
            line=
        elif ((status <= 128)); then
            return
        fi
        if [[ -n $phase ]]; then
            advance
        fi
    done
}

# ----------------------------------------------------------------------------------------------------- main

parse_arguments "$@"
[[ -n $data || -n $kubeconfig ]] || die "--kubeconfig PATH or --data-dir DIR is required, see --help"
if [[ -n $kubeconfig && -e $kubeconfig ]]; then
    die "--kubeconfig $kubeconfig exists already; this script does not overwrite files"
fi
locate_programs

guard=()
if command -v setpriv >/dev/null && setpriv --pdeathsig KILL true 2>/dev/null; then
    guard=(setpriv --pdeathsig KILL --)
fi

trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM

make_data_dir
port[etcd]=${port[etcd]:-$(free_port)}
port[apiserver]=${port[apiserver]:-$(free_port)}
make_keys
write_kubeconfig "$data/admin.kubeconfig" admin "$admin_token"
write_kubeconfig "$data/limited.kubeconfig" limited "$limited_token"
if [[ -n $kubeconfig ]]; then
    folder=$(dirname "$kubeconfig")
    mkdir -p "$folder" || die "--kubeconfig $kubeconfig: cannot create its folder"
    folder=$(cd "$folder" && pwd)
    kubeconfig=$folder/$(basename "$kubeconfig")
    cp "$data/admin.kubeconfig" "$kubeconfig"
fi

start_etcd
wait_for etcd
serve
