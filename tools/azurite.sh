#!/bin/sh
# Installs Azurite, the emulator of a storage account, as tools/azurite/package-lock.json pins it. Nothing if it is there already.
set -u
cd "$(dirname "$0")/azurite" || exit 1

fail() {
    echo "azurite: $1" >&2
    echo "  cure: $2" >&2
    exit 1
}

wanted=$(cksum <package-lock.json)
if [ "$(cat node_modules/.ready 2>/dev/null)" != "$wanted" ]; then
    for tool in node npm; do
        command -v $tool >/dev/null 2>&1 || fail "$tool is missing." "install Node 20 or newer, which brings npm, then again."
    done
    npm ci --silent --no-progress >npm.log 2>&1 || fail "npm could not install it (all of it: tools/azurite/npm.log)." \
        "is your package registry reachable? Then again."
    rm -f npm.log
    echo "$wanted" >node_modules/.ready
fi
echo "azurite   $(node node_modules/azurite/dist/src/azurite.js --version) ready"
