#!/bin/sh
# A deployment adds roles and never takes one away: with the ceiling report this does. Safe to run twice.
set -eu

[ "${GUARDRAIL_CEILING:-report}" = report ] || exit 0
for id in $(printf '%s' "$GUARDRAIL_GUARDED" | tr ',' ' '); do
  az role assignment list --subscription "$id" --scope "/subscriptions/$id" --assignee "$GUARDRAIL_HANDS_PRINCIPAL" \
    --query "[?starts_with(roleDefinitionName, 'Guardrail remediator')].id" --only-show-errors --output tsv |
    while read -r assignment; do
      az role assignment delete --ids "$assignment" --only-show-errors </dev/null
      printf '  (-) Removed: %s\n' "$assignment"
    done
done
