# shellcheck shell=bash
#
# What build scripts share that build Go programs from a go.mod of their own; they source this file.
#
# A program appears in the folder of programs under its own name only when it is whole, with a stamp beside it that
# says from what it was built. So a second run has nothing to do, and two runs at a time don't disturb each other.
#
# begin_programs sets: root (of the repository), here (the folder of go.mod), bin, stamp.

say() {
    printf '%s: %s\n' "$title" "$*" >&2
}

die() {
    say "error: $*"
    exit 1
}

# no_arguments ARGUMENT...: none but --help is taken; usage is the script's own.
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

# Of standard input.
checksum() {
    if command -v sha256sum >/dev/null; then
        sha256sum
    else
        shasum -a 256
    fi | cut -d ' ' -f 1
}

# The version that go.mod requires of a module.
version_of() {
    awk -v module="$1" '$1 == module { print $2; exit }' "$here/go.mod"
}

# begin_programs TITLE GO-MOD-FOLDER TARGET-FOLDER SOURCE...: what programs are built from, and where they go.
# TARGET-FOLDER is one in target; SOURCEs are the files that the stamps depend on.
begin_programs() {
    title=$1
    here=$2
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    folder=$root/target/$3
    bin=$folder/bin
    shift 3
    stamp=$(cat "$here/go.mod" "$here/go.sum" "${BASH_SOURCE[0]}" "$@" | checksum)
}

# up_to_date NAME: the program is there and was built from these very files.
up_to_date() {
    [[ -x $bin/$1 && -f $bin/$1.stamp && $(<"$bin/$1.stamp") == "$stamp" ]]
}

# prepare_build WITHOUT-GO: makes the folders and waits for another build; WITHOUT-GO is said where there is no Go.
prepare_build() {
    command -v go >/dev/null || die "go is not on the PATH. $1"
    mkdir -p "$bin"
    work=$(mktemp -d "$folder/build.XXXXXX")
    trap 'rm -rf "$work"' EXIT

    # Two builds at a time would only get in each other's way: the second waits, then finds all done.
    if command -v flock >/dev/null; then
        exec 9>"$folder/lock"
        flock 9
    fi
}

# build NAME PACKAGE [LDFLAGS]
build() {
    local name=$1 package=$2 ldflags=${3-} started=$SECONDS
    if up_to_date "$name"; then
        return
    fi
    say "building $package $(version_of "${package%/cmd/*}")"
    (cd "$here" && CGO_ENABLED=0 go build -mod=readonly -trimpath -buildvcs=false \
        -ldflags "-s -w $ldflags" -o "$work/$name" "$package") || die "building $name failed, see above"
    rm -f "$bin/$name.stamp"
    mv -f "$work/$name" "$bin/$name"
    printf '%s\n' "$stamp" >"$work/$name.stamp"
    mv -f "$work/$name.stamp" "$bin/$name.stamp"
    say "built $bin/$name in $((SECONDS - started)) s"
}
