#!/usr/bin/env bash
# Every test, in two lanes that share nothing and take about as long: the service's, and beside them the exporters', then those that
# start and kill whole stacks of their own (tests/chaos, tests/deploy). `make test` calls it with the environments' folders:
# run_tests.sh APP EXPORT. RERUNS=1 gives a failed test of these and of the service a second try, which the summary names: some of
# 10,000 tests on real servers meet a race that is not ours.
set -u
app=$1 export=$2 reruns=()
[ -z "${RERUNS:-}" ] || reruns=(--reruns "$RERUNS")
mkdir -p build
logs=(build/test-export.log build/test-deploy.log)

beside() {
  local status=0 child=
  trap 'kill "$child" 2>/dev/null; exit 143' TERM
  "$export"/bin/python -m pytest -m export -o timeout=900 --confcutdir=tests/export tests/export tests/tabletop > "${logs[0]}" 2>&1 &
  child=$!
  wait "$child" || status=1
  "$app"/bin/python -m pytest "${reruns[@]}" tests/chaos tests/deploy > "${logs[1]}" 2>&1 &
  child=$!
  wait "$child" || status=1
  return "$status"
}

beside &
lane=$!
trap 'kill "$lane" 2>/dev/null' EXIT
trap 'exit 130' INT TERM
"$app"/bin/python -m pytest "${reruns[@]}" --ignore=tests/chaos --ignore=tests/deploy
service=$?
wait "$lane"
others=$?
for log in "${logs[@]}"; do
  echo "· $log:"
  cat "$log"
done
exit $((service ? service : others))
