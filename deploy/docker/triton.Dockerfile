# Triton with what our Python-backend models import. `--target cpu` and `--target gpu` serve; `--target export` is the same image with
# torch, for making bundles and building engines: a TensorRT plan runs only where the TensorRT of its builder runs.
ARG TRITON_IMAGE
FROM ${TRITON_IMAGE} AS base
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_BREAK_SYSTEM_PACKAGES=1 PYTHONDONTWRITEBYTECODE=1
COPY --chmod=0755 deploy/docker/triton.sh /usr/local/bin/vlaapi-triton

FROM base AS cpu
COPY requirements/triton-cpu.txt /tmp/packages.txt
RUN python3 -m pip install --no-cache-dir --no-compile --require-hashes --only-binary=:all: -r /tmp/packages.txt
USER 1000:1000
ENTRYPOINT ["/usr/local/bin/vlaapi-triton"]

FROM base AS gpu
COPY requirements/triton-gpu.txt /tmp/packages.txt
COPY requirements/triton-tensorrt.txt /tmp/tensorrt.txt
RUN python3 -m pip install --no-cache-dir --no-compile --require-hashes --only-binary=:all: -r /tmp/packages.txt \
 && python3 -m pip install --no-cache-dir --no-compile --require-hashes --only-binary=:all: --no-deps -r /tmp/tensorrt.txt
USER 1000:1000
ENTRYPOINT ["/usr/local/bin/vlaapi-triton"]

FROM gpu AS export
USER 0:0
COPY requirements/torch.txt requirements/export.txt /tmp/
RUN python3 -m venv --system-site-packages /opt/export \
 && /opt/export/bin/pip install --no-cache-dir --no-compile -r /tmp/torch.txt \
 && /opt/export/bin/pip install --no-cache-dir --no-compile --require-hashes -r /tmp/export.txt
COPY export /opt/vlaapi/export
COPY tabletop /opt/vlaapi/tabletop
COPY deploy/__init__.py /opt/vlaapi/deploy/__init__.py
COPY deploy/embedded /opt/vlaapi/deploy/embedded
ENV PATH=/opt/export/bin:/usr/local/bin:/usr/bin:/bin PYTHONPATH=/opt/vlaapi
WORKDIR /opt/vlaapi
USER 1000:1000
ENTRYPOINT ["python", "-m", "export"]
CMD ["--help"]
