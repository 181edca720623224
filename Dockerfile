# Builds elockd and elock and puts them, alone, on an image that has a C library and no shell.
#
#   docker build -t elockd .
#   docker run -d --name elockd --restart unless-stopped -p 127.0.0.1:11400:11400 -v elockd:/data \
#     -v ./password:/password:ro -e ELOCK_PASSWORD_FILE=/password elockd
#
# It listens on all addresses of the container, and so does not start without a password, users
# (ELOCK_AUTH_FILE), or the word that everybody may come in (-e ELOCK_ALLOW_ANONYMOUS=true). User 65532
# must be able to read the file.
#
# Settings are -e ELOCK_…, before the image's name; -e ELOCK_DATA_DIR= keeps all in memory. The server
# is process 1 and stops at once on SIGTERM.
#
# The command, for any server:
#
#   docker run --rm --network host --entrypoint /elock elockd status

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
# The client library, with which elock is built.
COPY clients clients
# The manifest names them.
COPY benches benches
RUN cargo build --release --locked --bin elockd --bin elock
RUN mkdir /data

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/elockd /src/target/release/elock /
# A new volume gets its owner from here: user and group 65532.
COPY --from=build --chown=nonroot:nonroot /data /data
VOLUME /data
# Variables and no flags, so that `docker run -e` and the health check have the last word.
ENV ELOCK_LISTEN=0.0.0.0:11400
ENV ELOCK_DATA_DIR=/data
EXPOSE 11400
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["/elockd", "--check"]
ENTRYPOINT ["/elockd"]
