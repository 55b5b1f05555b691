#!/bin/sh
# Before anything is made: what is missing, which topics are there already, and what the guardrail will be allowed to do.
# Reads Azure only, but for resource providers, which it registers. Safe to run twice.
set -eu
cd "$(dirname "$0")/../.."

say() { printf '%s\n' "$*"; }
stop() { say "  (x) $1" >&2; say "      Cure: $2" >&2; exit 1; }

[ -n "${AZURE_SUBSCRIPTION_ID:-}" ] || stop "azd has no subscription for this environment" "azd env set AZURE_SUBSCRIPTION_ID ID"
own=$AZURE_SUBSCRIPTION_ID
guarded=$(printf '%s' "${GUARDRAIL_SUBSCRIPTIONS:-$own}" | tr ',' ' ')
for id in $own $guarded; do
  az account show --subscription "$id" --only-show-errors --output none ||
    stop "the Azure CLI is not signed in, or not to subscription $id" "az login --tenant TENANT, then run this again"
done
ceiling=${GUARDRAIL_CEILING:-report}
[ -n "${GUARDRAIL_AUDIENCE:-}" ] || stop "GUARDRAIL_AUDIENCE is not set: the console has no app registration" \
  "docs/tutorials/first-deployment.md, step 2; then azd env set GUARDRAIL_AUDIENCE api://..."

sh infra/hooks/package.sh check
[ -x "${GUARDRAIL_CLI:-.venv/bin/guardrail}" ] || stop "there is no .venv/bin/guardrail for the self-check" "make setup"

if [ "${GUARDRAIL_DELIVERY:-queue}" = function ]; then
  [ "${GUARDRAIL_CONSOLE_ACCESS:-public}" = public ] || stop "Event Grid cannot reach a private front" \
    "azd env set GUARDRAIL_DELIVERY queue"
  [ -n "${GUARDRAIL_FRONT:-}" ] || stop "Event Grid calls a function that is not deployed yet" \
    "azd env set GUARDRAIL_DELIVERY queue, azd up, then back and azd provision"
fi

for provider in Microsoft.App Microsoft.Web Microsoft.EventGrid Microsoft.Insights Microsoft.KeyVault; do
  az provider register --namespace "$provider" --subscription "$own" --wait --only-show-errors --output none
done

# Azure allows one system topic a subscription: another product's is used as it is, if it can deliver by identity
topics=
for id in $guarded; do
  az provider register --namespace Microsoft.EventGrid --subscription "$id" --wait --only-show-errors --output none
  found=$(az eventgrid system-topic list --subscription "$id" --only-show-errors --output tsv \
    --query "[?topicType=='Microsoft.Resources.Subscriptions'].[id, identity.type]")
  topic=$(printf '%s' "$found" | cut -f1)
  identity=$(printf '%s' "$found" | cut -f2)
  case "$topic" in
    '' | */evgt-guardrail-"$AZURE_ENV_NAME") continue ;;
  esac
  case "$identity" in
    *SystemAssigned*) ;;
    *) stop "the system topic $topic has no system-assigned identity, so it cannot deliver without a key" \
      "ask its owner for: az eventgrid system-topic update --ids $topic --identity systemassigned" ;;
  esac
  say "  (-) System topic of $id: $topic is there and is used as it is"
  topics="${topics:+$topics,}$topic"
done
azd env set GUARDRAIL_TOPICS "$topics"

# A retention that people locked can be made longer, and no deployment may write it again
state=
[ -z "${GUARDRAIL_ANCHORS:-}" ] || state=$(az storage container immutability-policy show --account-name "$GUARDRAIL_ANCHORS" \
  --container-name anchors --resource-group "$GUARDRAIL_AUDIT_GROUP" --query 'state || properties.state' --only-show-errors --output tsv) ||
  say "  (!) The retention of the anchors could not be read. If it is locked, the deployment fails at it."
azd env set GUARDRAIL_ANCHORS_STATE "$state"

# Azure refuses a role that names an action which no provider publishes, and the whole deployment with it
known=
for provider in $(sed -n 's|^ *"\(Microsoft\.[A-Za-z]*\)/.*|\1|p' infra/roles.json | sort -u); do
  found=$(az provider operation show --namespace "$provider" --only-show-errors --output tsv \
    --query '[operations, resourceTypes[].operations[]][] | [?!isDataAction].name') || found=
  [ -n "$found" ] || stop "the actions of $provider could not be read" "run this again: without them the roles may be refused"
  known="$known
$found"
done
unknown=
for action in $(sed -n 's|^ *"\(Microsoft\.[A-Za-z]*/.*\)".*|\1|p' infra/roles.json); do
  printf '%s' "$known" | grep -qixF "$action" || unknown="${unknown:+$unknown,}$action"
done
azd env set GUARDRAIL_UNKNOWN_ACTIONS "$unknown"
[ -z "$unknown" ] || say "  (!) Azure publishes no such action, so no role can hold it, and what needs it shows as unreadable: $unknown"

reads=$(sed -n '/"reader"/,/]/p' infra/roles.json | grep -c '/read"')
say "Guardrail will create rg-guardrail-$AZURE_ENV_NAME and rg-guardrail-$AZURE_ENV_NAME-audit, and in each of: $guarded"
say "  the role Guardrail reader ($reads read actions, listed in infra/roles.json) and one event subscription."
if [ "$ceiling" = report ]; then
  say "  It gets no permission to change your resources (only to tag its own group, for the probe)."
else
  say "  CEILING $ceiling: it also gets the role Guardrail remediator, which writes. docs/reference/roles.md lists every action."
fi
case " $guarded " in
  *" $own "*) say "  (!) It lives in a subscription that it guards: whoever owns that can become it. Better is one of its own." ;;
esac
[ -n "${GUARDRAIL_APPROVERS:-}" ] || say "  (!) GUARDRAIL_APPROVERS is empty: nobody can approve, unless the policy names groups."
