# The image of sandbox-manager: the binary, the libraries that it is linked with, and nothing else.
#
#   docker build --build-arg REVISION="$(git rev-parse HEAD)" --tag sandbox-manager:0.1.0 .
#
# Needs BuildKit, which Docker and Podman use by default, for the cache mounts. tests/image.sh runs the commands of the
# first stage without a container engine and checks the result.

# As in rust-toolchain.toml; a test compares them.
ARG RUST_VERSION=1.95.0

# Debian 12, as for the binaries of a release: they run with its C library and every newer one.
FROM rust:${RUST_VERSION}-slim-bookworm AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /src

# The build of jemalloc calls make, which the base image does not contain.
# hadolint ignore=DL3008
RUN command -v make || \
    { apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*; }

COPY .cargo .cargo
COPY Cargo.toml Cargo.lock ./
COPY crates crates
COPY src src

# Cargo rejects a manifest that names a bench, an example or a test whose file is missing. They are not copied.
RUN sed -E -i '/^\[\[(bench|example|test)\]\]/,/^$/d' Cargo.toml

# Set by BuildKit. Builds for two architectures share no cache.
ARG TARGETARCH=unknown
ARG REVISION=unknown
# The cache mounts keep downloaded and compiled dependencies from build to build. Cargo compares modification times, and
# a checkout may be older than the last build, so the sources are touched.
#
# jemalloc is compiled for one page size and ends the process on a kernel with larger pages. Kernels for arm64 have
# pages of 4, 16 or 64 KiB (2 to the power of 16 bytes).
RUN --mount=type=cache,id=sandbox-manager-registry,sharing=locked,target=/usr/local/cargo/registry \
    --mount=type=cache,id=sandbox-manager-target-$TARGETARCH,sharing=locked,target=/src/target \
    find crates src -name '*.rs' -exec touch {} + && \
    if [ "$(uname -m)" = aarch64 ]; then export JEMALLOC_SYS_WITH_LG_PAGE=16; fi && \
    SANDBOX_MANAGER_REVISION="$REVISION" \
    cargo build --release --locked --no-default-features --features jemalloc --bin sandbox-manager && \
    install -D target/release/sandbox-manager rootfs/usr/local/bin/sandbox-manager

# The whole file system of the image. The certificates are for API servers with a certificate of a public authority.
RUN ldd rootfs/usr/local/bin/sandbox-manager | grep -o '/[^ ]*' | \
    xargs cp --dereference --parents --target-directory rootfs && \
    install -D --mode 644 /etc/ssl/certs/ca-certificates.crt rootfs/etc/ssl/certs/ca-certificates.crt

FROM scratch
ARG REVISION=unknown
LABEL org.opencontainers.image.title="sandbox-manager" \
      org.opencontainers.image.description="Keeps every agent sandbox of a cluster in one shared cache and runs controllers on it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /src/rootfs/ /
# Numeric UID, so that runAsNonRoot can be verified.
USER 65532:65532
# Metrics, health, and the E2B API if it is enabled.
EXPOSE 8080 8081 8082
ENTRYPOINT ["/usr/local/bin/sandbox-manager"]
