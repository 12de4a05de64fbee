#!/usr/bin/env bash
# Writes the digest behind every tag of images.env: `deploy/docker/pin.sh [FILE]`. Needs docker with buildx, and the registries.
# All or nothing: the file is replaced when every registry has answered. A digest that is there is looked up again by its tag.
set -euo pipefail
file=${1:-$(dirname "$(readlink -f "$0")")/images.env}
fresh=$(mktemp "$file.XXXXXX")
trap 'rm -f "$fresh"' EXIT
while IFS= read -r line; do
  if [[ $line =~ ^([A-Z_]+_IMAGE)=([^@]+)(@.*)?$ ]]; then
    name=${BASH_REMATCH[1]} tag=${BASH_REMATCH[2]}
    digest=$(docker buildx imagetools inspect "$tag" --format '{{.Manifest.Digest}}') || { echo "pin: $tag cannot be had" >&2; exit 1; }
    [[ $digest =~ ^sha256:[0-9a-f]{64}$ ]] || { echo "pin: $tag: '$digest' is no digest" >&2; exit 1; }
    line="$name=$tag@$digest"
  fi
  printf '%s\n' "$line"
done <"$file" >"$fresh"
chmod --reference="$file" "$fresh"
mv "$fresh" "$file"
