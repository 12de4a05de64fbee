#!/bin/sh
# Writes the password into memory (never into the process list) and becomes Valkey.
set -eu
: "${REDIS_PASSWORD:?}"
umask 077
printf 'requirepass "%s"\n' "$REDIS_PASSWORD" >"${RUN_DIR:-/run/valkey}/password.conf"
unset REDIS_PASSWORD
exec "${VALKEY_SERVER:-valkey-server}" "${1:-/etc/vlaapi/valkey.conf}"
