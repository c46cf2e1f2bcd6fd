# The image of what `make build` made, and nothing else: no shell, no libc, no packages.
#
#   make image
#
# or, the same by hand, `make build` and then
#
#   docker build -t vk-flightctl-provider:latest .
#
# The program is static, writes no file, and brings Mozilla's certificate authorities
# for a system that has none; those of SSL_CERT_FILE, or mounted at
# /etc/ssl/certs/ca-certificates.crt, go before them.
FROM scratch
LABEL org.opencontainers.image.title="vk-flightctl-provider" \
      org.opencontainers.image.source="https://github.com/virtual-kubelet-rs/virtual-kubelet" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 65532:65532
EXPOSE 8080
EXPOSE 10250-10349
ENTRYPOINT ["/usr/local/bin/vk-flightctl-provider"]
# Last: what is above is no part of another layer then.
COPY bin/vk-flightctl-provider /usr/local/bin/vk-flightctl-provider
