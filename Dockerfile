# Builds elockd and puts it, alone, on an image that has a C library and no shell.
#
#   docker build -t elockd .
#   docker run -d --name elockd -p 127.0.0.1:11400:11400 elockd
#
# To keep locks over a restart: -v elockd:/data before the image's name, --data-dir /data after it.
# More flags go after the image's name. The server is process 1 and stops at once on SIGTERM.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
# The manifest names them.
COPY benches benches
RUN cargo build --release --locked --bin elockd
RUN mkdir /data

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/elockd /elockd
# A new volume gets its owner from here.
COPY --from=build --chown=nonroot:nonroot /data /data
EXPOSE 11400
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["/elockd", "--check"]
ENTRYPOINT ["/elockd", "--listen", "0.0.0.0:11400"]
