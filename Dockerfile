# All programs of qunfa in one image: static binaries, no shell, no root.
#
#   docker build --build-arg VERSION=$(git describe --tags --always --dirty) -t qunfa .
#
# The same sources, version and Go give the same bytes: paths, build ids and the
# state of the repository are left out.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY cmd ./cmd
COPY internal ./internal
COPY schemas ./schemas
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X main.version=${VERSION}" \
      -o /out/ ./cmd/ingest ./cmd/sink ./cmd/reconcile ./cmd/qunfa

FROM gcr.io/distroless/static-debian12:nonroot
ARG VERSION=dev
LABEL org.opencontainers.image.title="qunfa" \
      org.opencontainers.image.description="Tells what became of every WeChat mass message" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /out/ /usr/local/bin/
USER nonroot
WORKDIR /etc/qunfa
ENV QUNFA_CONFIG=/etc/qunfa/qunfa.yaml
# 8080 callbacks, 8081 record API, 8082 metrics and health.
EXPOSE 8080 8081 8082
# Fails while the service says that it cannot do its work.
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 CMD ["/usr/local/bin/qunfa", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/qunfa"]
