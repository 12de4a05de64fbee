#!/bin/bash
# Run once, by the image, on an empty data folder: the roles, each with no more than it needs. Passwords go over standard input.
set -euo pipefail
psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres --quiet <<'SQL'
\getenv app VLAAPI_PASSWORD
\getenv monitor MONITOR_PASSWORD
CREATE ROLE vlaapi LOGIN CREATEDB PASSWORD :'app';
CREATE DATABASE vlaapi OWNER vlaapi;
CREATE ROLE vlaapi_reader NOLOGIN;
CREATE ROLE monitor LOGIN PASSWORD :'monitor' CONNECTION LIMIT 5;
GRANT pg_monitor TO monitor;
REVOKE CONNECT ON DATABASE vlaapi FROM PUBLIC;
GRANT CONNECT ON DATABASE vlaapi TO vlaapi_reader, monitor;
SQL
