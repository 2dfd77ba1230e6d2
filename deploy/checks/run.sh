#!/usr/bin/env bash
# Whether what deploys us is sound, without a cluster and without a container engine: `make
# check-deploy`. What a machine lacks is left out, loudly; with CI=true it is an error.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools="$PWD/.venv-checks/bin"
checks=deploy/checks
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

say() { printf '%s\n' "$*" >&2; }

missing() {
  say "NOT CHECKED: $*"
  if [[ ${CI:-} == true ]]; then failed=1; fi
}

# run NAME COMMAND...: its output only where it fails.
run() {
  local name=$1
  shift
  if "$@" >"$work/output" 2>&1; then
    say "ok: $name"
  else
    say "FAILED: $name"
    cat "$work/output" >&2
    failed=1
  fi
}

# The pinned one, else a kubectl that brings version 5 of it.
kustomize() {
  if [[ -x $tools/kustomize ]]; then
    "$tools/kustomize" build "$1"
  else
    kubectl kustomize "$1"
  fi
}

has_kustomize() {
  [[ -x $tools/kustomize ]] || kubectl version --client 2>/dev/null | grep -q 'Kustomize Version: v5'
}

mapfile -t scripts < <(git ls-files --cached --others --exclude-standard '*.sh' .ci/run)
mapfile -t pages < <(git ls-files --cached --others --exclude-standard '*.yaml' '*.yml')

if command -v shellcheck >/dev/null; then
  run "shellcheck, ${#scripts[@]} scripts" shellcheck "${scripts[@]}"
else
  missing "shell scripts: there is no shellcheck"
fi
if command -v yamllint >/dev/null; then
  run "yamllint, ${#pages[@]} files" yamllint --strict --config-file "$checks/yamllint.yaml" "${pages[@]}"
else
  missing "YAML: there is no yamllint"
fi

run "docker-compose.yml is what the Compose specification allows" \
  "$tools/check-jsonschema" --builtin-schema vendor.compose-spec docker-compose.yml

# In a folder each, as checkov names what it finds by the file.
if has_kustomize; then
  for overlay in deploy/kubernetes/overlays/*/; do
    name=$(basename "$overlay")
    if ! kustomize "$overlay" >"$work/$name.yaml" 2>"$work/error"; then
      say "FAILED: kustomize build $overlay"
      cat "$work/error" >&2
      failed=1
      continue
    fi
    run "$name: Kubernetes knows each field" \
      "$tools/kubernetes-validate" --strict --quiet "$work/$name.yaml"
    run "$name: checkov finds nothing" \
      "$tools/checkov" --config-file "$checks/checkov.yaml" --framework kubernetes --file "$work/$name.yaml"
  done
else
  missing "manifests: there is no kustomize, and neither Go nor a kubectl of 1.27 to have it from"
fi

run "Dockerfile: checkov finds nothing" \
  "$tools/checkov" --config-file "$checks/checkov.yaml" --framework dockerfile --file deploy/Dockerfile
run "deploy: checkov finds no secret" \
  "$tools/checkov" --config-file "$checks/checkov.yaml" --framework secrets --directory deploy

"$tools/python" "$checks/supply.py" audit --where-possible >&2 || failed=1

exit "$failed"
