# syntax=docker/dockerfile:1

FROM python:3.13-slim AS build
WORKDIR /src
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY enhancer enhancer
COPY sql sql
RUN python -m venv /opt/enhancer && \
    /opt/enhancer/bin/pip install --no-cache-dir ".[embedded,video]"

FROM python:3.13-slim
# the openai client trusts the operating system's certificates; a pinned version would leave the archive soon
# hadolint ignore=DL3008
RUN apt-get update && \
    apt-get install -y --no-install-recommends ca-certificates && \
    rm -rf /var/lib/apt/lists/* && \
    useradd --system --uid 10001 --create-home --home-dir /var/lib/enhancer enhancer && \
    install -d -o enhancer -g enhancer -m 700 /data
COPY --from=build /opt/enhancer /opt/enhancer
ENV PATH=/opt/enhancer/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    DATA_DIR=/data
WORKDIR /data
USER 10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ.get(\"PORT\") or 8000}/readyz', timeout=4)"]
# exec form: SIGTERM reaches the service itself
ENTRYPOINT ["enhancer"]
CMD ["serve"]
