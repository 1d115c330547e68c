# The operator alone: one static binary that runs as nobody's user, with its
# state in /var/lib/dcshealer. Built with `make image`, or:
#   docker build --build-arg VERSION=v1.2.3 -t dcshealer .
ARG GO_IMAGE=golang:1.26-alpine

FROM ${GO_IMAGE} AS build
ARG VERSION=dev
WORKDIR /src
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false \
        -ldflags "-s -w -X main.version=${VERSION}" -o /out/dcshealer ./cmd/dcshealer
# An image may come without certificates: then the operator speaks TLS with a ca_file only.
RUN mkdir -p /out/etc/ssl/certs /out/tmp /state \
    && chmod 1777 /out/tmp \
    && if [ -r /etc/ssl/certs/ca-certificates.crt ]; then cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/; fi

FROM scratch
ARG VERSION=dev
LABEL org.opencontainers.image.title="dcshealer" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /out/ /
COPY --from=build --chown=65532:65532 /state/ /var/lib/dcshealer/
USER 65532:65532
# dcshealer.yaml is looked for here, and its relative state_dir lies here.
WORKDIR /var/lib/dcshealer
VOLUME /var/lib/dcshealer
EXPOSE 9470
ENTRYPOINT ["/dcshealer"]
CMD ["run"]
