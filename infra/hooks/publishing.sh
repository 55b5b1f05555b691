#!/bin/sh
# open | close: the door through which packages are published to both apps. It is closed but for the minutes of a deployment,
# takes no password, and hands stays deaf to everything else. From within its network (GUARDRAIL_DEPLOY=private) it stays shut.
set -eu

[ "${GUARDRAIL_DEPLOY:-}" != private ] || exit 0
case "$1" in
  open) action=Allow hands=Enabled front=Enabled ;;
  close) action=Deny hands=Disabled front=Enabled ;;
  *) printf 'publishing.sh open | close\n' >&2; exit 2 ;;
esac
[ "$1" = open ] || [ "${GUARDRAIL_CONSOLE_ACCESS:-public}" = public ] || front=Disabled

# What is changed and nothing else: a site read and written back whole carries properties that Flex Consumption refuses (51021)
patch() {
  az rest --method patch --url "$1?api-version=2025-03-01" --body "{\"properties\": {\"$2\": \"$3\"}}" --only-show-errors --output none
}

failed=0
for app in "$GUARDRAIL_FRONT" "$GUARDRAIL_HANDS"; do
  id="$GUARDRAIL_GROUP/providers/Microsoft.Web/sites/$app"
  [ "$app" = "$GUARDRAIL_HANDS" ] && access=$hands || access=$front
  patch "$id" publicNetworkAccess "$access" || failed=1
  patch "$id/config/web" scmIpSecurityRestrictionsDefaultAction "$action" || failed=1
done
if [ $failed = 1 ]; then
  printf '  (x) Could not %s publishing at both apps\n      Cure: azd hooks run postdeploy closes it; azd deploy tries again\n' "$1" >&2
  exit 1
fi
[ "$1" = close ] || printf '  (-) Publishing is open. If the deployment breaks off: azd deploy again, or azd hooks run postdeploy, which closes it\n'
