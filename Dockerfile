# syntax=docker/dockerfile:1

FROM rust:1.95-slim-bookworm AS build
# libsqlite3-sys, ring and jemalloc compile C.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The cache mounts are not part of the image, so the binary is copied out of the target folder.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin upload-coordinator \
    && cp target/release/upload-coordinator /usr/local/bin/upload-coordinator \
    && mkdir /empty

# The glibc of the same Debian as above, and CA certificates. No shell and no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /usr/local/bin/upload-coordinator /usr/local/bin/upload-coordinator
# The only folder that the service writes to, for SQLite files and embedded stores. The built-in
# defaults are relative to it. So the root file system can be mounted read-only.
COPY --from=build --chown=nonroot:nonroot /empty /data
VOLUME /data
WORKDIR /data
USER nonroot:nonroot
EXPOSE 8080
# The image has no shell and no curl. Check the health from outside, at /healthz (the process is
# alive) and /readyz (database, migrations and bucket).
ENTRYPOINT ["/usr/local/bin/upload-coordinator"]
CMD ["serve"]
