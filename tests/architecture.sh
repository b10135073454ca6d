#!/usr/bin/env bash
#
# Checks the shape of the workspace; see usage below.

set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: tests/architecture.sh [--help] [CHECK...]

Checks that
  dependencies   the crates of the workspace depend on each other in one direction,
  cycles         the modules of each crate import each other without a cycle,
  size           `src/` of the root package without the parts on top of the cache stays below 15,500 lines.

Without a CHECK, all of them. First it tests itself. Needs Python 3 and cargo; compiles nothing.
USAGE
}

case ${1-} in
    -h | --help)
        usage
        exit 0
        ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/architecture"

# -B: leave no compiled files in the work tree.
python3 -B self_test.py --quiet
exec python3 -B check.py "$@"
