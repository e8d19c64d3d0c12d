# syntax=docker/dockerfile:1
#
# docker buildx build --platform linux/amd64,linux/arm64,linux/arm/v7 .
#
# The build stage runs on the builder's own architecture and cross-compiles: the Rust image does not exist for arm/v7,
# and an emulated build takes an hour. xx is a set of shell scripts that point clang, apk and cargo to TARGETPLATFORM.
FROM --platform=$BUILDPLATFORM tonistiigi/xx:1.6.1 AS xx

# The version equals rust-version in Cargo.toml.
FROM --platform=$BUILDPLATFORM rust:1.95-alpine AS build
COPY --from=xx / /
RUN apk add --no-cache ca-certificates clang file lld musl-dev
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
# Cargo wants the targets of the manifest to exist before it fetches anything.
RUN mkdir -p src tests && touch src/lib.rs src/main.rs src/build.rs tests/main.rs
# Before TARGETPLATFORM, so that the platforms share the download.
RUN cargo fetch --locked
COPY . .
ARG TARGETPLATFORM
# SQLite and ring are C: headers of the target's libc, and gcc for its libgcc.
RUN xx-apk add --no-cache gcc musl-dev
# Static is what musl targets default to; verified, since the image below has no loader.
RUN xx-cargo build --release --locked --bin hpalite --target-dir /out && \
    mkdir -p /root-of-image/data && \
    cp "/out/$(xx-cargo --print-target-triple)/release/hpalite" /root-of-image/hpalite && \
    xx-verify --static /root-of-image/hpalite

FROM scratch
# For Prometheus behind a public certificate; the API server's own CA comes with the service account.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /root-of-image/hpalite /hpalite
# Owned by the user below, or a new volume mounted here would be root's.
COPY --from=build --chown=65532:65532 /root-of-image/data /data
USER 65532:65532
VOLUME /data
EXPOSE 6443 8080
ENTRYPOINT ["/hpalite"]
CMD ["run"]
