#!/bin/sh
# Writes the one login into memory (never into the process list) and becomes PgBouncer.
set -eu
: "${POSTGRES_PASSWORD:?}"
umask 077
printf '"vlaapi" "%s"\n' "$(printf '%s' "$POSTGRES_PASSWORD" | sed 's/"/""/g')" >"${RUN_DIR:-/run/pgbouncer}/userlist.txt"
unset POSTGRES_PASSWORD
exec pgbouncer "${1:-/etc/vlaapi/pgbouncer.ini}"
