#!/bin/sh
# After both apps have the package: shut the door, then let the guardrail check itself, with a probe. Safe to run twice.
set -eu
cd "$(dirname "$0")/../.."

sh infra/hooks/publishing.sh close
GUARDRAIL=${GUARDRAIL_CLI:-.venv/bin/guardrail}
if ! "$GUARDRAIL" doctor --probe; then
  printf '  (x) The self-check found something: both apps stand and run, report-only as far as the ceiling says.\n' >&2
  printf '      Cure: what it says above, then azd hooks run postdeploy\n' >&2
  exit 1
fi
printf 'It runs at %s. The first sweep comes within the hour; what it found: %s findings list\n' "$GUARDRAIL_URL" "$GUARDRAIL"
[ "${GUARDRAIL_CEILING:-report}" != report ] ||
  printf 'Next: look for a week, then: azd env set GUARDRAIL_CEILING approve && azd provision   (adds the write role)\n'
