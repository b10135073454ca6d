#!/usr/bin/env python3
"""Checks the shape of the workspace: which crate needs which, no cycles among modules, the size of `src/`.

    tests/architecture.sh [dependencies] [cycles] [size]

Without an argument, all three. Prints every fault and exits with 1 if there is any.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from modules import cycles, references_of

REPOSITORY = Path(__file__).resolve().parent.parent.parent

# For each crate: the crates of the workspace that it must depend on, and those that it may depend on besides.
CRATES = {
    "label-selector": (set(), set()),
    "memory-apiserver": ({"label-selector"}, set()),
    "shared-cache": ({"label-selector"}, set()),
    "controller-manager": ({"shared-cache"}, {"label-selector"}),
    "sandbox-manager": ({"controller-manager"}, {"shared-cache", "label-selector"}),
}
# The test server: libraries take it for their tests alone, the root package also behind a feature.
TEST_SERVER, ROOT = "memory-apiserver", "sandbox-manager"

# Lines of Rust in `src/` of the root package, without the folders below. The bound keeps generic code out of this
# package: such code belongs into one of the crates. It was 12,000 before the package had SandboxClaim,
# `sandbox-manager crd apply` and `sandbox-manager probe`, and 14,500 before it had the settings of the E2B API,
# `sandbox-manager e2b`, the blueprint of sandboxes as a part that claims share with the lifecycle controllers, and the
# comparison of restrictions in `crd apply`.
MOST_LINES = 15_500
# Each of these folders is a part of its own on top of the cache, so it has no share in the bound.
UNBOUNDED = {"lifecycle", "claims", "e2b", "gateway"}


def workspace_packages():
    command = ["cargo", "metadata", "--no-deps", "--locked", "--format-version", "1"]
    output = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE).stdout
    return json.loads(output)["packages"]


def check_dependencies(packages):
    """Faults in the dependencies that the crates of the workspace have on each other."""
    names = {package["name"] for package in packages}
    for name in sorted(CRATES.keys() - names):
        yield f"{name} is not in the workspace"
    for name in sorted(names - CRATES.keys()):
        yield f"{name} is in the workspace, but not in the list of {Path(__file__).name}: add what it may depend on"
    for package in (package for package in packages if package["name"] in CRATES):
        yield from check_package(package, names)


def check_package(package, names):
    name = package["name"]
    required, allowed = CRATES[name]
    ours = [dependency for dependency in package["dependencies"] if dependency["name"] in names]
    for dependency in ours:
        other, kind = dependency["name"], dependency["kind"] or "normal"
        if other == name and kind == "dev":
            # A package may turn on its own features for its tests.
            continue
        if other == TEST_SERVER:
            if kind != "dev" and not (name == ROOT and dependency["optional"]):
                how = "an optional dependency or a dev-dependency" if name == ROOT else "a dev-dependency"
                yield f"{name} depends on {other}, which may only be {how}"
        elif other not in required | allowed and not (kind == "dev" and name != "label-selector" and is_below(other, name)):
            yield f"{name} has a {kind} dependency on {other}, which is not below it"
    normal = {dependency["name"] for dependency in ours if dependency["kind"] is None}
    for other in sorted(required - normal):
        yield f"{name} does not depend on {other}"
    if name == ROOT and not any(d["name"] == TEST_SERVER and d["optional"] for d in ours):
        yield f"{name} has no optional dependency on {TEST_SERVER}"


def is_below(lower, upper):
    """Whether `upper` may reach `lower` through its dependencies."""
    required, allowed = CRATES[upper]
    return lower in required | allowed or any(is_below(lower, between) for between in required)


def check_cycles():
    """Faults in the imports of each crate."""
    roots = [REPOSITORY / "src/lib.rs", REPOSITORY / "src/main.rs"]
    roots += sorted(REPOSITORY.glob("crates/*/src/lib.rs")) + sorted(REPOSITORY.glob("crates/*/src/main.rs"))
    for root in (root for root in roots if root.exists()):
        references = references_of(root)
        for group in cycles(references):
            yield describe(root, references, group)


def describe(root, references, group):
    short = lambda file: str(file.relative_to(root.parent))
    lines = [f"{root.parent.relative_to(REPOSITORY)}: {len(group)} files need each other:"]
    for file in sorted(group):
        for other in sorted(references[file].keys() & group):
            lines.append(f"    {short(file)} -> {short(other)}: {', '.join(sorted(references[file][other]))}")
    return "\n".join(lines)


def check_size():
    """A fault if the root package has grown beyond its bound."""
    root = REPOSITORY / "src"
    files = (file for file in sorted(root.rglob("*.rs")) if file.relative_to(root).parts[0] not in UNBOUNDED)
    lines = sum(len(file.read_text().splitlines()) for file in files)
    print(f"architecture: {lines} lines in src/ without {', '.join(sorted(UNBOUNDED))}")
    if lines >= MOST_LINES:
        yield f"src/ has {lines} lines without {', '.join(sorted(UNBOUNDED))}; it must stay under {MOST_LINES}"


CHECKS = {
    "dependencies": lambda: check_dependencies(workspace_packages()),
    "cycles": check_cycles,
    "size": check_size,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checks", nargs="*", metavar="CHECK", help="dependencies, cycles, size; all if none is named")
    checks = parser.parse_args().checks or list(CHECKS)
    if unknown := [check for check in checks if check not in CHECKS]:
        parser.error(f"unknown check {unknown[0]}; there are {', '.join(CHECKS)}")
    faults = [f"{check}: {fault}" for check in checks for fault in CHECKS[check]()]
    for fault in faults:
        print(f"architecture: {fault}", file=sys.stderr)
    if faults:
        sys.exit(1)
    print(f"architecture: {', '.join(checks)}: no faults")


if __name__ == "__main__":
    main()
