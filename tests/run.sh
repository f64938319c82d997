#!/bin/sh
# Everything the tests need, then all of them: an environment of its own, and what Debian packages of the rest.
set -eu
cd "$(dirname "$0")/.."
missing=""
for package in mosquitto chromium docker-compose; do
    PATH="$PATH:/usr/sbin" command -v "$package" >/dev/null || missing="$missing $package"
done
if [ -n "$missing" ]; then
    as_root=""
    [ "$(id -u)" = 0 ] || as_root="sudo"
    $as_root env DEBIAN_FRONTEND=noninteractive sh -c "apt-get -qq update && apt-get -qq install -y --no-install-recommends$missing"
fi
python3 -m venv --clear .venv-test
bin=.venv-test/bin
$bin/pip install --quiet --disable-pip-version-check -e '.[dev]'
$bin/ruff check .
$bin/ruff format --check .
$bin/mypy
$bin/lint-imports
$bin/pytest -q -n 2 --dist worksteal "$@"
