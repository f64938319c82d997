#!/bin/sh
# Everything the tests need, then all of them: an environment of its own, servers from Debian's packages.
set -eu
cd "$(dirname "$0")/.."
python3 -m venv --clear .venv-test
bin=.venv-test/bin
$bin/pip install --quiet --disable-pip-version-check -e '.[dev]'
$bin/ruff check .
$bin/ruff format --check .
$bin/mypy
$bin/lint-imports
$bin/pytest -q "$@"
