# The remediator service. Nothing secret is in the image: secrets come as files at run time (see docker-compose.yml).
# Needs BuildKit: the default since Docker 23, and of docker compose.
#
# Behind a mirror of the package index, give pip its configuration as a build secret, which no layer keeps:
#   docker build --secret id=pip,src=/etc/pip.conf -t remediator:local .

ARG PYTHON=python:3.12-slim

# ------------------------------------------------------------------------------------------------ build
FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

# Every file that is installed is checked against its hash.
COPY requirements.lock installer.lock ./
RUN ["python3", "-m", "venv", "/opt/remediator"]
RUN --mount=type=secret,id=pip,target=/etc/pip.conf ["/opt/remediator/bin/pip", "install", "--require-hashes", "--no-deps", "-r", "requirements.lock"]

# The build back end too is pinned and checked; without build isolation pip fetches nothing beside it.
RUN ["python3", "-m", "venv", "/opt/build"]
RUN --mount=type=secret,id=pip,target=/etc/pip.conf ["/opt/build/bin/pip", "install", "--require-hashes", "--no-deps", "-r", "installer.lock"]

COPY pyproject.toml README.md LICENSE ./
COPY remediator remediator
# A real installation and not a path: actions are found by the entry points of the installed distribution.
RUN ["/opt/build/bin/pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", "dist", "."]
RUN ["/opt/remediator/bin/pip", "install", "--no-deps", "--no-index", "--find-links", "dist", "remediator"]

# ------------------------------------------------------------------------------------------------ run
FROM ${PYTHON}
LABEL org.opencontainers.image.title="remediator" \
      org.opencontainers.image.description="Alertmanager-driven auto-remediation; dry-run by default" \
      org.opencontainers.image.licenses="Apache-2.0"

# A number, so that Kubernetes' runAsNonRoot can see that it is not root.
RUN ["useradd", "--uid", "10001", "--user-group", "--home-dir", "/var/lib/remediator", "--create-home", "--shell", "/usr/sbin/nologin", "remediator"]

COPY --from=build /opt/remediator /opt/remediator
# The shipped rules and playbooks; mount your own over them, read-only.
COPY rules /etc/remediator/rules
COPY playbooks /etc/remediator/playbooks

ENV PATH=/opt/remediator/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    REMEDIATOR_LEDGER__URL=sqlite:////var/lib/remediator/ledger.db \
    REMEDIATOR_PATHS__RULES=/etc/remediator/rules \
    REMEDIATOR_PATHS__PLAYBOOKS=/etc/remediator/playbooks

USER 10001:10001
WORKDIR /etc/remediator
VOLUME ["/var/lib/remediator"]
EXPOSE 8080

# Alive, not ready: a service that waits for its ledger must not be killed for it.
HEALTHCHECK --interval=15s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/-/healthy', timeout=2)"]

ENTRYPOINT ["remediator"]
CMD ["serve"]
