# engine with GPU code: `docker build -t engine .`, and as docs/install.md says.

FROM nvidia/cuda:13.0.2-devel-ubuntu24.04 AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update && \
    apt-get install --yes --no-install-recommends ca-certificates curl g++ && \
    rm -rf /var/lib/apt/lists/*
ENV PATH=/root/.cargo/bin:$PATH
RUN curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | \
    sh -s -- -y --profile minimal --default-toolchain 1.95.0
WORKDIR /src
COPY . .
# Without nvcc the build fails, rather than make an image without GPU code.
RUN ENGINE_REQUIRE_NVCC=1 cargo install --locked --path . --bin engine --root /opt/engine

FROM nvidia/cuda:13.0.2-base-ubuntu24.04
# hadolint ignore=DL3008
RUN apt-get update && \
    apt-get install --yes --no-install-recommends libstdc++6 && \
    rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/engine/bin/engine /usr/local/bin/engine
COPY LICENSE-MIT LICENSE-APACHE /usr/local/share/doc/engine/
RUN useradd --create-home --uid 10001 engine
USER 10001
WORKDIR /home/engine
ENTRYPOINT ["engine"]
CMD ["doctor"]
