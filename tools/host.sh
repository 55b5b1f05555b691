#!/bin/sh
# The embedded run under the real Functions host: starts Azurite and the simulator, prints what to type in two other shells.
#     sh tools/host.sh BIN        BIN: the environment's bin folder
set -u
cd "$(dirname "$0")/.." || exit 1
bin=$1 port=8801

missing() {
    echo "host: $1 is missing." >&2
    echo "  cure: $2   or, without it: make run" >&2
    exit 1
}
command -v func >/dev/null 2>&1 || missing "Azure Functions Core Tools (func)" "npm install -g azure-functions-core-tools@4"
azurite=$(command -v azurite || ls tools/azurite/node_modules/.bin/azurite 2>/dev/null) || missing "Azurite" "make azurite"

mkdir -p .run/azurite
[ -f local.settings.json ] || { cp local.settings.sample.json local.settings.json && echo "local.settings.json made from the sample"; }
# The SDKs ask for newer api-versions than Azurite knows.
"$azurite" --silent --skipApiVersionCheck --location .run/azurite --blobHost 127.0.0.1 --queueHost 127.0.0.1 --tableHost 127.0.0.1 &
azurite_pid=$!
trap 'kill $azurite_pid 2>/dev/null' EXIT INT TERM

cat <<TEXT
In a second shell:  . $bin/activate && func start
In a third:         $bin/guardrail replay recorded/events --to http://127.0.0.1:7071
Ctrl+C here ends Azurite and the simulator.
TEXT
"$bin/guardrail" simulate --port $port --resources recorded/resources --events-to \
    "http://127.0.0.1:7071/runtime/webhooks/EventGrid?functionName=on_resource_change"
