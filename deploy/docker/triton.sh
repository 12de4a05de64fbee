#!/bin/bash
# Starts Triton closed: what can change a running server (models, shared memory, logs, traces) asks for a key that is made here, told to
# nobody and gone with the process. Network isolation is the control; this is the second lock (docs/SECURITY.md).
set -eu
closed="shared-memory,model-repository,trace,logging"
key=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
exec tritonserver \
  --model-repository=/models \
  --model-control-mode=none \
  --disable-auto-complete-config \
  --strict-readiness=true \
  --exit-on-error=true \
  --exit-timeout-secs=20 \
  --allow-sagemaker=false \
  --allow-vertex-ai=false \
  --grpc-restricted-protocol="$closed:admin-key=$key" \
  --http-restricted-api="$closed:admin-key=$key" \
  --log-format=ISO8601 \
  "$@"
