# syntax=docker/dockerfile:1

FROM rust:1.95-slim-bookworm AS build
# libsqlite3-sys, ring and jemalloc compile C.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The caches stay out of the image; the binary is copied out of the one that holds it.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin upload-coordinator \
    && cp target/release/upload-coordinator /usr/local/bin/upload-coordinator \
    && mkdir /empty

# glibc of the same Debian as above and CA certificates; no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /usr/local/bin/upload-coordinator /usr/local/bin/upload-coordinator
# SQLite files and embedded stores, where they are used: the only folder that is written to
# (the defaults of the configuration are relative to it, and built into the binary), so the
# root file system can be mounted read-only.
COPY --from=build --chown=nonroot:nonroot /empty /data
VOLUME /data
WORKDIR /data
USER nonroot:nonroot
EXPOSE 8080
# The image has no shell and no curl: health is asked for from outside, at /healthz (alive) and
# /readyz (database, migrations and bucket).
ENTRYPOINT ["/usr/local/bin/upload-coordinator"]
CMD ["serve"]
