# The image of sandbox-manager: the binary, the libraries that it is linked with, and nothing else.
#
#   docker build --build-arg REVISION="$(git rev-parse HEAD)" --tag sandbox-manager:0.1.0 .
#
# tests/image.sh runs the commands of the first stage without a container engine and looks at what comes of them.

# As in rust-toolchain.toml; a test compares them.
ARG RUST_VERSION=1.95.0

FROM rust:${RUST_VERSION}-slim-trixie AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /src

# jemalloc is built with it; the base image has none.
# hadolint ignore=DL3008
RUN command -v make || \
    { apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*; }

# The dependencies and the library crates, in a layer that stays as long as these files do. Other targets than the binary are left
# out of the manifest: their files are not here.
COPY Cargo.toml Cargo.lock ./
COPY crates crates
RUN sed -E -i '/^\[\[(bench|example|test)\]\]/,/^$/d' Cargo.toml && \
    mkdir src && touch src/lib.rs && echo 'fn main() {}' >src/main.rs && \
    cargo build --release --locked --no-default-features --features jemalloc --bin sandbox-manager

COPY src src
ARG REVISION=unknown
# Sources keep the times that they have outside; cargo must take them for newer than the stand-ins above.
RUN touch src/lib.rs src/main.rs && \
    SANDBOX_MANAGER_REVISION="$REVISION" cargo build --release --locked --no-default-features --features jemalloc --bin sandbox-manager

# The whole file system of the image. The certificates are for API servers that an authority of the public signs.
RUN install -D target/release/sandbox-manager rootfs/usr/local/bin/sandbox-manager && \
    ldd target/release/sandbox-manager | grep -o '/[^ ]*' | \
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
# Nobody's number, as a number: Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 8080 8081
ENTRYPOINT ["/usr/local/bin/sandbox-manager"]
