#!/bin/sh
# Before the groups go: what stands in guarded subscriptions is taken away, rights first. What was quarantined stays quarantined.
# The group with the anchors is locked and stays: docs/how-to/remove.md. Safe to run twice.
set -eu

# A deployment that never succeeded has no outputs: then ours are known by the names of their roles alone
guarded=${GUARDRAIL_GUARDED:-${GUARDRAIL_SUBSCRIPTIONS:-$AZURE_SUBSCRIPTION_ID}}
for id in $(printf '%s' "$guarded" | tr ',' ' '); do
  ours="starts_with(roleDefinitionName, 'Guardrail ') && contains(roleDefinitionName, '($AZURE_ENV_NAME, $id)')"
  az role assignment list --subscription "$id" --scope "/subscriptions/$id" --only-show-errors --output tsv \
    --query "[?principalId=='${GUARDRAIL_HANDS_PRINCIPAL:-none}' || ($ours)].id" |
    while read -r assignment; do
      az role assignment delete --ids "$assignment" --only-show-errors </dev/null
      printf '  (-) Removed: %s\n' "$assignment"
    done
  az eventgrid system-topic list --subscription "$id" --only-show-errors --output tsv \
    --query "[?topicType=='Microsoft.Resources.Subscriptions'].[name, resourceGroup]" |
    while read -r topic group; do
      for name in "guardrail-$AZURE_ENV_NAME" "guardrail-$AZURE_ENV_NAME-direct"; do
        az eventgrid system-topic event-subscription delete --subscription "$id" --resource-group "$group" \
          --system-topic-name "$topic" --name "$name" --yes --only-show-errors --output none 2>/dev/null </dev/null || continue
        printf '  (-) Removed: event subscription %s on %s\n' "$name" "$topic"
      done
    done
  az role definition list --subscription "$id" --custom-role-only true --only-show-errors --output tsv \
    --query "[?starts_with(roleName, 'Guardrail ') && contains(roleName, '($AZURE_ENV_NAME, $id)')].name" |
    while read -r definition; do
      az role definition delete --name "$definition" --custom-role-only true --scope "/subscriptions/$id" --only-show-errors </dev/null
      printf '  (-) Removed: role definition %s\n' "$definition"
    done
  [ "$id" = "$AZURE_SUBSCRIPTION_ID" ] ||
    printf '  (!) What is left in %s: az group delete --subscription %s --name rg-guardrail-%s-events\n' "$id" "$id" "$AZURE_ENV_NAME"
done
# The group takes its assignments with it, not the definition that names it
group=/subscriptions/$AZURE_SUBSCRIPTION_ID/resourceGroups/rg-guardrail-$AZURE_ENV_NAME
probe="Guardrail probe ($AZURE_ENV_NAME, $AZURE_SUBSCRIPTION_ID)"
az role assignment list --scope "$group" --query "[?roleDefinitionName=='$probe'].id" --only-show-errors --output tsv |
  while read -r assignment; do
    az role assignment delete --ids "$assignment" --only-show-errors </dev/null
  done
az role definition list --scope "$group" --custom-role-only true --query "[?roleName=='$probe'].name" --only-show-errors --output tsv |
  while read -r definition; do
    az role definition delete --name "$definition" --custom-role-only true --scope "$group" --only-show-errors </dev/null
    printf '  (-) Removed: role definition %s\n' "$definition"
  done
printf '  (!) Resources that were isolated stay as they are: docs/how-to/quarantine-and-release.md before this, or by hand after it.\n'
printf '  (!) rg-guardrail-%s-audit holds the anchors and is locked: it stays, and azd ends with an error that says so.\n' "$AZURE_ENV_NAME"
printf '      Cure: docs/how-to/remove.md\n'
