# docker build -t vk-flightctl-provider:latest .
FROM rust:1.95.0-bookworm AS build
# Over rust-toolchain.toml, whose extra components a build does not need.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
COPY . .
RUN cargo build --locked --release --package vk-flightctl --bin vk-flightctl-provider

# glibc and the public certificate authorities, no shell; its user is 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/vk-flightctl-provider /usr/local/bin/
USER 65532:65532
EXPOSE 8080
EXPOSE 10250-10349
ENTRYPOINT ["/usr/local/bin/vk-flightctl-provider"]
