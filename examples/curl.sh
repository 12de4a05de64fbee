#!/usr/bin/env bash
# One request to a running service: examples/curl.sh [PICTURE] [INSTRUCTION]
# URL and KEY come from the environment, else from `vlaapi status` of the service on this machine.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
picture=${1:-$here/tabletop.png}
instruction=${2:-pick up red cube}

if [ -z "${KEY:-}" ]; then
  status=$("$here/../.venv/bin/vlaapi" status --json)
  URL=${URL:-$(python3 -c 'import json, sys; print(json.load(sys.stdin)["url"])' <<<"$status")}
  KEY=$(python3 -c 'import json, sys; print(json.load(sys.stdin)["demo_key"])' <<<"$status")
fi

# As a form: the picture goes as it is, without base64. The key goes in by file, so that no process list shows it.
curl --fail-with-body --silent --show-error "${URL:-http://127.0.0.1:8080}/v1/inference" \
  --config <(printf 'header = "Authorization: Bearer %s"\n' "$KEY") \
  --form "image=@$picture" --form-string "instruction=$instruction"
echo
