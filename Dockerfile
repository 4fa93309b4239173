# The image of dockerjail; the classic builder and BuildKit both build it:
#
#     docker build -t dockerjail .
#
# Where no registry or package index is reachable, name any image that has
# python3 (3.11 or newer) with its venv module, and put the wheels in ./wheels:
#
#     docker build -t dockerjail --network none --build-arg BASE=my/python \
#         --build-arg PIP_NO_INDEX=1 --build-arg PIP_FIND_LINKS=/build/wheels .

ARG BASE=python:3.13-slim

FROM ${BASE} AS build
ARG PIP_NO_INDEX
ARG PIP_FIND_LINKS
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all:
WORKDIR /build

# What changes seldom first: the dependencies, by hash.
COPY requirements/run.txt requirements/fast.txt requirements/build.txt wheel[s]/* wheels/
RUN python3 -m venv tools \
    && tools/bin/pip install --require-hashes -r wheels/build.txt \
    && python3 -m venv --without-pip /opt/dockerjail \
    && tools/bin/pip --python /opt/dockerjail/bin/python install --require-hashes -r wheels/run.txt -r wheels/fast.txt

COPY pyproject.toml README.md LICENSE source/
COPY migrations source/migrations
COPY dockerjail source/dockerjail
RUN tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir made ./source \
    && tools/bin/pip --python /opt/dockerjail/bin/python install --no-deps --no-index made/*.whl


FROM ${BASE}
ARG BASE
LABEL org.opencontainers.image.title="dockerjail" \
      org.opencontainers.image.description="fail2ban for containers: reads container logs over the Docker socket and bans attackers in nftables" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.base.name="${BASE}"
COPY --from=build /opt/dockerjail /opt/dockerjail
ENV PATH=/opt/dockerjail/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Settings are no secret, and may be read by a user other than root.
RUN mkdir -p -m 0755 /etc/dockerjail \
    && mkdir -p -m 0700 /run/dockerjail /var/lib/dockerjail

# Writable under --read-only. Give the state a named volume, and /run/dockerjail
# (the control socket) a tmpfs, as deploy/compose.yaml does.
VOLUME ["/var/lib/dockerjail", "/run/dockerjail"]

# Unhealthy is a daemon that does not answer. One that is degraded (exit code 4)
# goes on protecting, and to restart it would not mend a wrong label.
HEALTHCHECK --interval=30s --timeout=15s --start-period=60s --retries=3 \
    CMD dockerjail status >/dev/null; case $? in 0|4) exit 0;; *) exit 1;; esac

ENTRYPOINT ["dockerjail"]
CMD ["run"]
