# The remediator service. Nothing secret is in the image: secrets come as files at run time (see docker-compose.yml).
# Needs BuildKit (the default since Docker 23) for the inline file below.

ARG PYTHON=python:3.12-slim

# ------------------------------------------------------------------------------------------------ build
FROM ${PYTHON} AS build
# Which lock is installed. Every file in it is checked against its hash.
ARG LOCK=requirements.lock
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

COPY ${LOCK} runtime.lock
RUN ["python", "-m", "venv", "/opt/remediator"]
RUN ["/opt/remediator/bin/pip", "install", "--require-hashes", "--no-deps", "-r", "runtime.lock"]

# The build back end too is pinned and checked; without build isolation pip fetches nothing beside it.
# Renew with: uv pip compile --generate-hashes --universal - <<< hatchling
COPY <<'LOCK' build.lock
hatchling==1.28.0 \
    --hash=sha256:4d50b02aece6892b8cd0b3ce6c82cb218594d3ec5836dbde75bf41a21ab004c8 \
    --hash=sha256:dc48722b68b3f4bbfa3ff618ca07cdea6750e7d03481289ffa8be1521d18a961
packaging==26.3 \
    --hash=sha256:94edc256424af38762eb31306eed28beb9f0efc50a8837492c9d6fd6004aed79 \
    --hash=sha256:d7193f7c8e4e93f444fde0262bf90af30e16fa0ad0ad44cb553c87339b23cd1c
pathspec==1.1.1 \
    --hash=sha256:17db5ecd524104a120e173814c90367a96a98d07c45b2e10c2f3919fff91bf5a \
    --hash=sha256:a00ce642f577bf7f473932318056212bc4f8bfdf53128c78bbd5af0b9b20b189
pluggy==1.7.0 \
    --hash=sha256:7dd7b0d8832ba3cb632c306926ded123429211b83641b35dc5c41ad2d34f9bec \
    --hash=sha256:d1eaa46ebb595891b860ab086b4d09c8588af65ebd4361b8e8f4bb8920b90ba8
trove-classifiers==2026.9.21.13 \
    --hash=sha256:0a9ebc8d4e2f3e8a22848c5258033035bec17a3012ac3fea16dbaa764489eb71 \
    --hash=sha256:8b1ff4f9c191b1040b71c37f1e445ab99732911e3cd91de52838453a854d7a17
LOCK
RUN ["python", "-m", "pip", "install", "--require-hashes", "-r", "build.lock"]

COPY pyproject.toml README.md LICENSE ./
COPY remediator remediator
# A real installation and not a path: actions are found by the entry points of the installed distribution.
RUN ["python", "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", "dist", "."]
RUN ["/opt/remediator/bin/pip", "install", "--no-deps", "--no-index", "--find-links", "dist", "remediator"]

# ------------------------------------------------------------------------------------------------ run
FROM ${PYTHON}
LABEL org.opencontainers.image.title="remediator" \
      org.opencontainers.image.description="Alertmanager-driven auto-remediation; dry-run by default" \
      org.opencontainers.image.licenses="Apache-2.0"

# A number, so that Kubernetes' runAsNonRoot can see that it is not root.
RUN ["useradd", "--system", "--uid", "10001", "--user-group", "--home-dir", "/var/lib/remediator", "--create-home", "--shell", "/usr/sbin/nologin", "remediator"]

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
