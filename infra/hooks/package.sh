#!/bin/sh
# Once, for both apps: the packages of requirements.txt for Linux and Python 3.13, by their hashes, beside the code. Nothing is
# built in Azure. Before `azd package` and before `azd deploy`, which alone does not call the first; what is there already stays.
# With the word check it only says whether it could.
set -eu
cd "$(dirname "$0")/../.."

cmp -s requirements.txt .python_packages/requirements.txt && exit 0
python=${PYTHON:-.venv/bin/python}
[ -x "$python" ] || [ -n "${PYTHON:-}" ] || python=python3.13
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' || {
  printf '  (x) %s is not Python 3.13, which runs in the cloud\n' "$python" >&2
  printf '      Cure: PYTHON=/path/to/python3.13 azd up, or azd deploy\n' >&2
  exit 1
}
[ "${1:-}" != check ] || exit 0
rm -rf .python_packages
printf '  (-) Packages for Azure, by their hashes\n'
"$python" -c 'from pathlib import Path; from tools import package; package.install(Path(package.PACKAGES))'
cp requirements.txt .python_packages/requirements.txt
