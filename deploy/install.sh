#!/usr/bin/env bash
# Prepares a machine for `docker compose up -d`, in the folder that this repository was unpacked in (the seed's /opt/vlaapi):
# checks what is needed, makes secrets (.env, 0600), a certificate and what nginx must know of the site (site/, 0700).
# Run it again whenever you like: it changes nothing that is as it should be, and never replaces a secret or a certificate of yours.
set -euo pipefail
umask 077

usage() {
  cat <<'TEXT'
usage: deploy/install.sh [options]

  --public-url URL        what customers call, such as https://api.yourco.com (first run; later it is in .env)
  --admin-networks CIDRS  from where /admin/ can be reached, separated by commas (default: nowhere but this machine)
  --lb-networks CIDRS     load balancers in front of this machine whose X-Forwarded-For is believed
  --alert-webhook URL     who is told of alerts
  --cert FILE --key FILE  a certificate (with its chain) and its key; without them a local authority makes one
  --prepare-only          write files, ask for no container engine (to prepare on another machine)
TEXT
}

root=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)
tls=$root/site/tls
public_url="" admin_networks="" lb_networks="" alert_webhook="" cert="" key="" prepare_only=""
while (($#)); do
  case $1 in
    --public-url) public_url=${2:?--public-url needs a value}; shift 2 ;;
    --admin-networks) admin_networks=${2:?--admin-networks needs a value}; shift 2 ;;
    --lb-networks) lb_networks=${2:?--lb-networks needs a value}; shift 2 ;;
    --alert-webhook) alert_webhook=${2:?--alert-webhook needs a value}; shift 2 ;;
    --cert) cert=${2:?--cert needs a value}; shift 2 ;;
    --key) key=${2:?--key needs a value}; shift 2 ;;
    --prepare-only) prepare_only=1; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; echo "install: $1: unknown option" >&2; exit 2 ;;
  esac
done

faults=()
fault() { faults+=("$1"); }
refuse_if_faulty() {
  ((${#faults[@]} == 0)) && return
  printf 'install: %s\n' "${faults[@]}" >&2
  exit 1
}
say() { printf '· %s\n' "$1"; }

# --- what the machine must have ---------------------------------------------------------------------------------------------------
check_machine() {
  command -v openssl >/dev/null || fault "openssl is missing"
  [[ -w $root ]] || fault "$root cannot be written by this user"
  [[ -n $prepare_only ]] && return
  if ! command -v docker >/dev/null; then
    fault "docker is missing (or use --prepare-only)"
  else
    local compose
    compose=$(docker compose version --short 2>/dev/null || true)
    at_least "${compose#v}" 2.24 || fault "Docker Compose 2.24 or newer is needed, this is '${compose:-none}'"
    docker info >/dev/null 2>&1 || fault "this user cannot reach the docker engine"
  fi
  [[ -f $root/.env ]] || check_room # later it is in use already, and a renewed certificate must not wait for it
}
check_room() {
  local memory_kb free_kb
  memory_kb=$(awk '/^MemTotal/ {print $2}' /proc/meminfo)
  ((memory_kb >= 15000000)) || fault "16 GB of memory are needed, this machine has $((memory_kb / 1000000))"
  free_kb=$(df -Pk "$root" | awk 'NR == 2 {print $4}')
  ((free_kb >= 60000000)) || fault "60 GB of disk are needed in $root, $((free_kb / 1000000)) are free"
  if command -v nvidia-smi >/dev/null; then
    docker info --format '{{json .Runtimes}}' 2>/dev/null | grep -q nvidia || fault "there is a GPU, but docker has no nvidia runtime"
  fi
}
at_least() { [[ -n $1 && $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -1) == "$2" ]]; }

# --- .env -------------------------------------------------------------------------------------------------------------------------
env_file=$root/.env
value_of() { { [[ -f $env_file ]] && sed -n "s/^$1=//p" "$env_file" | tail -1; } || true; }
has() { [[ -f $env_file ]] && grep -q "^$1=" "$env_file"; }
add() { has "$1" || printf '%s=%s\n' "$1" "$2" >>"$env_file"; }
secrets=(POSTGRES_SUPERUSER_PASSWORD POSTGRES_PASSWORD MONITOR_DB_PASSWORD GRAFANA_DB_PASSWORD REDIS_PASSWORD VLA_KEY_PEPPER VLA_BACKUP_KEY
  OBJECT_STORE_ACCESS_KEY OBJECT_STORE_SECRET_KEY GRAFANA_ADMIN_PASSWORD GRAFANA_SECRET_KEY)
set_value() { # a given option wins over what .env says
  if ! has "$1"; then add "$1" "$2"; elif [[ $(value_of "$1") != "$2" ]]; then
    local fresh
    fresh=$(mktemp "$env_file.XXXXXX")
    awk -v name="$1" -v value="$2" 'index($0, name "=") == 1 { print name "=" value; next } { print }' "$env_file" >"$fresh"
    mv "$fresh" "$env_file"
    say "changed $1"
  fi
}
check_values() {
  local url networks webhook name
  url=${public_url:-$(value_of VLA_PUBLIC_URL)}
  if [[ -z $url ]]; then fault "--public-url is needed the first time"; elif [[ ! $url =~ ^https://[A-Za-z0-9.-]+(:[0-9]+)?$ ]]; then
    fault "--public-url: '$url' is not https://NAME or https://NAME:PORT"
  fi
  for networks in "${admin_networks:-$(value_of VLA_ADMIN_NETWORKS)}" "${lb_networks:-$(value_of VLA_LB_NETWORKS)}"; do
    [[ $networks =~ ^([0-9a-fA-F.:]+/[0-9]+(,[0-9a-fA-F.:]+/[0-9]+)*)?$ ]] || fault "'$networks' are not networks like 10.0.0.0/8,fd00::/8"
  done
  webhook=${alert_webhook:-$(value_of ALERT_WEBHOOK_URL)}
  [[ -z $webhook || $webhook =~ ^https?://[^[:space:]]+$ ]] || fault "--alert-webhook: that is not an address"
  if [[ -n $cert || -n $key ]]; then check_given_certificate; elif [[ -f $tls/fullchain.pem && ! -f $root/site/ca/issued ]]; then
    is_for "$tls/fullchain.pem" "$url" || fault "the certificate in site/tls is not for $url: give one that is, with --cert and --key"
  fi
  [[ $(value_of VLA_API_REPLICAS) =~ ^([1-9][0-9]?)?$ ]] || fault "VLA_API_REPLICAS in .env must be a number from 1 to 99"
  for name in "${secrets[@]}"; do
    ! has "$name" || [[ $(value_of "$name") =~ ^[A-Za-z0-9._-]{16,}$ ]] \
      || fault "$name in .env must be 16 or more of A-Z a-z 0-9 . _ - (it becomes part of addresses)"
  done
}
write_env() {
  if [[ ! -f $env_file ]]; then
    printf '# Written by deploy/install.sh; readable by its owner only. Keep a copy elsewhere: without VLA_KEY_PEPPER every API key\n# is void, without VLA_BACKUP_KEY no backup can be read.\n' >"$env_file"
    say "made .env"
  fi
  chmod 0600 "$env_file"
  [[ -z $public_url ]] || set_value VLA_PUBLIC_URL "$public_url"
  [[ -z $admin_networks ]] || set_value VLA_ADMIN_NETWORKS "$admin_networks"
  [[ -z $lb_networks ]] || set_value VLA_LB_NETWORKS "$lb_networks"
  [[ -z $alert_webhook ]] || set_value ALERT_WEBHOOK_URL "$alert_webhook"
  add VLA_ADMIN_NETWORKS 127.0.0.0/8
  add VLA_LB_NETWORKS ""
  add ALERT_WEBHOOK_URL ""
  add VLA_API_REPLICAS 3
  add COMPOSE_PROFILES "$(command -v nvidia-smi >/dev/null && echo gpu || echo cpu)"
  local name
  for name in "${secrets[@]}"; do
    has "$name" || say "made $name"
    add "$name" "$(openssl rand -hex 32)"
  done
  local line
  while IFS= read -r line; do
    [[ $line == *_IMAGE=* ]] || continue
    set_value "${line%%=*}" "${line#*=}"
  done <"$root/deploy/docker/images.env"
}

# --- site/ ------------------------------------------------------------------------------------------------------------------------
place() { # place FILE MODE: standard input becomes the file, unless it is that already
  local fresh
  fresh=$(mktemp "$1.XXXXXX")
  cat >"$fresh"
  if [[ -f $1 ]] && cmp -s "$fresh" "$1"; then rm "$fresh"; else
    chmod "$2" "$fresh"
    mv "$fresh" "$1"
    say "wrote ${1#"$root"/}"
  fi
}
# Containers read these as users of their own. site/ itself is closed, so that what is readable below it is so for containers only.
folders() {
  local name
  for name in site site/nginx site/tls site/acme site/alertmanager site/prometheus site/seller build/site; do mkdir -p "$root/$name"; done
  chmod 0700 "$root/site"
  chmod 0755 "$root"/site/{nginx,tls,acme,alertmanager,prometheus,seller} "$root/build" "$root/build/site"
}
# shellcheck disable=SC2016 # the names are nginx's variables
write_site() {
  local network
  {
    printf '# Written by deploy/install.sh from .env; change .env and run it again; nginx follows by itself\n'
    printf 'map "" $vla_public_url { default "%s"; }\n' "$(value_of VLA_PUBLIC_URL)"
    printf 'geo $vla_is_operator {\n    default 0;\n'
    for network in $(tr ',' ' ' <<<"$(value_of VLA_ADMIN_NETWORKS)"); do printf '    %s 1;\n' "$network"; done
    printf '}\n'
    if [[ -n $(value_of VLA_LB_NETWORKS) ]]; then
      for network in $(tr ',' ' ' <<<"$(value_of VLA_LB_NETWORKS)"); do printf 'set_real_ip_from %s;\n' "$network"; done
      printf 'real_ip_header X-Forwarded-For;\nreal_ip_recursive on;\n'
    fi
  } | place "$root/site/nginx/site.conf" 0644
  local webhook
  webhook=$(value_of ALERT_WEBHOOK_URL)
  [[ -n $webhook ]] || echo "install: nobody is told of alerts; name somebody with --alert-webhook" >&2
  printf '%s' "${webhook:-http://127.0.0.1:9/nobody-is-told}" | place "$root/site/alertmanager/webhook_url" 0444
}

write_targets() { # whom Prometheus asks, as far as .env says so
  local n replicas
  replicas=$(value_of VLA_API_REPLICAS)
  {
    printf -- '- targets:\n'
    for ((n = 1; n <= ${replicas:-3}; n++)); do printf '    - vlaapi-api-%d:8000\n' "$n"; done
  } | place "$root/site/prometheus/api.yml" 0644
  if [[ ,$(value_of COMPOSE_PROFILES), == *,gpu,* ]]; then printf -- '- targets: [dcgm-exporter:9400]\n'; else printf '[]\n'; fi \
    | place "$root/site/prometheus/gpu.yml" 0644
}

# --- certificate ------------------------------------------------------------------------------------------------------------------
host_of() { sed -E 's#^https://([^:]+).*#\1#' <<<"$1"; }
is_for() { # is_for CERTIFICATE URL: whether whoever calls the address will take it
  local host kind=-checkhost
  host=$(host_of "$2")
  [[ $host =~ ^[0-9.]+$ ]] && kind=-checkip
  openssl x509 -in "$1" -noout "$kind" "$host" | grep -q 'does match'
}
check_given_certificate() {
  [[ -n $cert && -n $key ]] || { fault "--cert and --key belong together"; return; }
  [[ -r $cert && -r $key ]] || { fault "--cert or --key cannot be read"; return; }
  openssl x509 -in "$cert" -noout -checkend 0 >/dev/null 2>&1 || { fault "--cert: no certificate, or one that has run out"; return; }
  is_for "$cert" "$url" || fault "--cert is not for $url"
  [[ $(openssl x509 -in "$cert" -noout -pubkey) == "$(openssl pkey -in "$key" -pubout 2>/dev/null)" ]] || fault "--key does not belong to --cert"
}
private() { # nginx runs as 101 in its container; only root can hand a file to it
  if ((EUID == 0)); then chown 101:101 "$1" && chmod 0400 "$1"; else chmod 0444 "$1"; fi
}
write_certificate() {
  if [[ -n $cert ]]; then
    place "$tls/fullchain.pem" 0444 <"$cert"
    cmp -s "$key" "$tls/privkey.pem" || { place "$tls/privkey.pem" 0400 <"$key"; private "$tls/privkey.pem"; }
    rm -f "$root/site/ca/issued"
  elif [[ ! -f $tls/fullchain.pem ]]; then
    issue
  elif [[ ! -f $root/site/ca/issued ]]; then
    return
  elif ! is_for "$tls/fullchain.pem" "$(value_of VLA_PUBLIC_URL)"; then
    say "the certificate of the local authority is for another name"
    issue
  elif ! openssl x509 -in "$tls/fullchain.pem" -noout -checkend 2592000 >/dev/null; then
    say "the certificate of the local authority ends within 30 days"
    issue
  fi
}
issue() { # by an authority of this machine's own: for trying out, or where customers are given site/ca/ca.pem
  local ca=$root/site/ca host work
  host=$(host_of "$(value_of VLA_PUBLIC_URL)")
  mkdir -p "$ca"
  work=$(mktemp -d "$ca/work.XXXXXX")
  if [[ ! -f $ca/ca.key ]]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -days 3650 -subj "/CN=vlaapi local authority" \
      -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign" \
      -keyout "$work/ca.key" -out "$work/ca.pem" 2>/dev/null
    mv "$work/ca.pem" "$ca/ca.pem" && mv "$work/ca.key" "$ca/ca.key"
  fi
  local name="DNS:$host"
  [[ $host =~ ^[0-9.]+$ ]] && name="IP:$host"
  printf 'basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=serverAuth\nsubjectAltName=%s\n' \
    "$name,DNS:localhost,IP:127.0.0.1" >"$work/leaf.ext"
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$host" -keyout "$work/leaf.key" -out "$work/leaf.csr" 2>/dev/null
  openssl x509 -req -in "$work/leaf.csr" -CA "$ca/ca.pem" -CAkey "$ca/ca.key" -set_serial "0x$(openssl rand -hex 16)" -days 397 \
    -sha256 -extfile "$work/leaf.ext" -out "$work/leaf.pem" 2>/dev/null
  cat "$work/leaf.pem" "$ca/ca.pem" | place "$tls/fullchain.pem" 0444
  rm -f "$tls/privkey.pem"
  mv "$work/leaf.key" "$tls/privkey.pem"
  private "$tls/privkey.pem"
  rm -r "$work"
  touch "$ca/issued"
  say "made a certificate for $host; whoever calls must trust site/ca/ca.pem"
}

check_machine
check_values
refuse_if_faulty
write_env
folders
write_site
write_targets
write_certificate
say "ready: docker compose build && docker compose up -d"
