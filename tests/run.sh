#!/bin/sh
# Everything the tests need, then all of them: an environment of its own, and mosquitto from Debian's packages.
set -eu
cd "$(dirname "$0")/.."
if ! PATH="$PATH:/usr/sbin" command -v mosquitto >/dev/null; then
    as_root=""
    [ "$(id -u)" = 0 ] || as_root="sudo"
    $as_root env DEBIAN_FRONTEND=noninteractive sh -c 'apt-get -qq update && apt-get -qq install -y --no-install-recommends mosquitto'
fi
python3 -m venv --clear .venv-test
bin=.venv-test/bin
$bin/pip install --quiet --disable-pip-version-check -e '.[dev]'
$bin/ruff check .
$bin/ruff format --check .
$bin/mypy
$bin/lint-imports
$bin/pytest -q "$@"
