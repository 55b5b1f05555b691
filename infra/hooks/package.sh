#!/bin/sh
# Once, for both apps: the packages of requirements.txt for Linux and Python 3.13, beside the code. Nothing is built in Azure.
set -eu
cd "$(dirname "$0")/../.."

python=${PYTHON:-python3.13}
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' || {
  printf '  (x) %s is not Python 3.13, which runs in the cloud\n      Cure: PYTHON=/path/to/python3.13 azd package\n' "$python" >&2
  exit 1
}
rm -rf .python_packages
"$python" -m pip install --quiet --disable-pip-version-check --no-compile --only-binary=:all: \
  --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 --implementation cp --python-version 3.13 \
  --target .python_packages/lib/site-packages --requirement requirements.txt
