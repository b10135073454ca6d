# shellcheck shell=bash
#
# Functions for the build scripts that build Go programs; the scripts source this file.
#
# A program is moved to its folder only when it is complete. A stamp beside the program holds the checksum of its
# sources. So a second run builds nothing, and two runs at the same time do not disturb each other.
#
# begin_programs sets root (the repository), here (the folder of go.mod), folder, bin and stamp.

say() {
    printf '%s: %s\n' "$title" "$*" >&2
}

die() {
    say "error: $*"
    exit 1
}

# no_arguments ARGUMENT...: accepts only --help, which calls the function usage of the script.
no_arguments() {
    case ${1-} in
        '') ;;
        -h | --help)
            usage
            exit 0
            ;;
        *)
            usage >&2
            die "unknown argument: $1"
            ;;
    esac
}

# checksum: prints the SHA-256 of standard input.
checksum() {
    if command -v sha256sum >/dev/null; then
        sha256sum
    else
        shasum -a 256
    fi | cut -d ' ' -f 1
}

# version_of MODULE: prints the version of a module in go.mod.
version_of() {
    awk -v module="$1" '$1 == module { print $2; exit }' "$here/go.mod"
}

# begin_programs TITLE GO-MOD-FOLDER TARGET-FOLDER SOURCE...: sets the folders and the stamp.
# TARGET-FOLDER is a folder in target. The stamp depends on go.mod, go.sum, this file and the SOURCEs.
begin_programs() {
    title=$1
    here=$2
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    folder=$root/target/$3
    bin=$folder/bin
    shift 3
    stamp=$(cat "$here/go.mod" "$here/go.sum" "${BASH_SOURCE[0]}" "$@" | checksum)
}

# up_to_date NAME: succeeds if the program exists and was built from the present sources.
up_to_date() {
    [[ -x $bin/$1 && -f $bin/$1.stamp && $(<"$bin/$1.stamp") == "$stamp" ]]
}

# prepare_build ADVICE: creates the folders and waits for another build. Without Go, exits and prints ADVICE.
prepare_build() {
    command -v go >/dev/null || die "go is not on the PATH. $1"
    mkdir -p "$bin"
    work=$(mktemp -d "$folder/build.XXXXXX")
    trap 'rm -rf "$work"' EXIT

    # Two builds at the same time would compete for the cores. The second build waits and then finds the programs.
    if command -v flock >/dev/null; then
        exec 9>"$folder/lock"
        flock 9
    fi
}

# build NAME PACKAGE [LDFLAGS]: builds one program unless the program is up to date.
build() {
    local name=$1 package=$2 ldflags=${3-} started=$SECONDS
    if up_to_date "$name"; then
        return
    fi
    say "building $package $(version_of "${package%/cmd/*}")"
    (cd "$here" && CGO_ENABLED=0 go build -mod=readonly -trimpath -buildvcs=false \
        -ldflags "-s -w $ldflags" -o "$work/$name" "$package") || die "building $name failed; the output above has the reason"
    rm -f "$bin/$name.stamp"
    mv -f "$work/$name" "$bin/$name"
    printf '%s\n' "$stamp" >"$work/$name.stamp"
    mv -f "$work/$name.stamp" "$bin/$name.stamp"
    say "built $bin/$name in $((SECONDS - started)) s"
}
