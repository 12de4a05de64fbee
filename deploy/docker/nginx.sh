#!/bin/sh
# Becomes nginx, and has it read certificate and site file again when they change, so that a renewed certificate needs nobody.
# A pair of which only one file is there yet is not taken: nginx tries it first, and goes on with what it has.
set -eu
conf=${NGINX_CONF:-/etc/nginx/nginx.conf}

seen() { cat "${TLS_DIR:-/etc/nginx/tls}"/* "${SITE_DIR:-/etc/nginx/site}"/* 2>&1 | cksum; }

follow() {
  while sleep "${FOLLOW_EVERY_S:-30}" && kill -0 "$$"; do # $$ is nginx by then
    is=$(seen)
    if [ "$is" != "$was" ] && nginx -q -t -e stderr -c "$conf" && nginx -s reload -e stderr -c "$conf"; then
      was=$is
      echo "nginx: certificate or site file changed and was read again" >&2
    fi
  done
}

was=$(seen)
follow &
exec nginx -e stderr -c "$conf" -g "daemon off;"
