"""Checks the E2B API with the official Python SDK, unmodified.

The SDK that is installed is the one that is tested: `run.sh` calls this with one version after another. Nothing here
reaches a sandbox itself, so no runtime has to answer: only the calls of the control plane are used.

This file follows one small fleet through its life. `edges.py` has the limits of each call, `races.py` what several
callers do at once, and `asynchronous.py` the other client of the SDK.

Environment: E2B_API_URL, E2B_API_KEY, E2B_DOMAIN (a place where nobody listens, so that a call to a sandbox fails at
once), TPL (a template whose pool has at least three sandboxes), TEAM (its namespace, if that is not `default`),
OTHER_KEY (another key of the same team, may be missing).
"""

import logging
import os
import sys
from datetime import timedelta

from e2b import Sandbox, SandboxQuery, SandboxState
from e2b.exceptions import AuthenticationException, NotFoundException, SandboxException

import asynchronous
import edges
import races
from common import (
    BOTH_STATES,
    OTHER_KEY,
    RELEASE,
    RUN,
    SECOND_DIALECT,
    TEMPLATE,
    Made,
    check,
    check_near,
    check_raises,
    ids,
    in_seconds,
    is_paused,
    now,
    pages,
    pause,
    query,
)

# A key and a value that need each of the three rounds of escapes.
ODD_KEY, ODD_VALUE = "user id", "a b@c/d=e&f"


def create(made):
    for number in range(3):
        begun = now()
        sandbox = made.create(metadata={ODD_KEY: ODD_VALUE, "n": str(number)}, envs={"A": "1"})
        check_near(sandbox.get_info().end_at, begun + timedelta(seconds=120))
        check(sandbox.sandbox_domain, "no domain")
        host = f"8080-{sandbox.sandbox_id}.{sandbox.sandbox_domain}"
        check(sandbox.get_host(8080) == host, sandbox.get_host(8080))
        # A label of a host name has at most 63 characters.
        check(len(f"49983-{sandbox.sandbox_id}") <= 63, sandbox.sandbox_id)
    check(len({sandbox.sandbox_id for sandbox in made.all}) == 3, "a sandbox was given twice")


def get_info(sandbox):
    info = sandbox.get_info()
    check(info.sandbox_id == sandbox.sandbox_id, info)
    check(info.template_id == TEMPLATE, info)
    check(info.state == SandboxState.RUNNING, info)
    for key, value in {"run": RUN, ODD_KEY: ODD_VALUE, "n": "0"}.items():
        check(info.metadata.get(key) == value, key, info.metadata)
    check(info.started_at.tzinfo is not None, info)
    check_near(info.started_at, now(), 60)
    check(info.cpu_count >= 1 and info.memory_mb >= 1 and info.envd_version, info)


def list_sandboxes(made):
    everything = ids(query=query())
    check(sorted(everything) == sorted(sandbox.sandbox_id for sandbox in made), everything)
    single = pages(query=query(), limit=1)
    check([len(page) for page in single] == [1, 1, 1], "pages", single)
    check([page[0] for page in single] == everything, "the order of pages differs", single, everything)
    check(ids(query=query(BOTH_STATES, **{ODD_KEY: ODD_VALUE})) == everything, "the odd key")
    check(ids(query=query(n="1")) == [made[1].sandbox_id], "one of three")
    check(ids(query=query(**{ODD_KEY: "a b"})) == [], "a part of a value is not the value")
    check(ids(query=query([SandboxState.PAUSED])) == [], "none is paused")
    if SECOND_DIALECT:
        ascending, descending = ids(query=query(), order="asc"), ids(query=query(), order="desc")
        check(ascending == descending[::-1], "order", ascending, descending)
        of_run = {"run": RUN}
        check(ids(query=SandboxQuery(metadata=of_run, template=TEMPLATE)) == everything, "template")
        later = SandboxQuery(metadata=of_run, started_after=in_seconds(3600))
        check(ids(query=later) == [], "started_after")


def timeouts(sandbox):
    for seconds in (600, 60):
        sandbox.set_timeout(seconds)
        check_near(sandbox.get_info().end_at, in_seconds(seconds))
    # A connect to a running sandbox never shortens its time.
    sandbox.connect(timeout=30)
    check_near(sandbox.get_info().end_at, in_seconds(60))
    connected = Sandbox.connect(sandbox.sandbox_id)
    check(connected.sandbox_id == sandbox.sandbox_id, connected.sandbox_id)
    check_near(sandbox.get_info().end_at, in_seconds(300))


def pause_and_resume(sandbox):
    first = pause(sandbox)
    check(first is True or not SECOND_DIALECT, "the first pause", first)
    check(is_paused(sandbox), "not paused")
    check(ids(query=query([SandboxState.PAUSED])) == [sandbox.sandbox_id], "the list of paused ones")
    second = pause(sandbox)
    check(second is False or not SECOND_DIALECT, "the second pause", second)
    check(ids(query=query(BOTH_STATES, n="0")) == [sandbox.sandbox_id], "both states")
    check(sandbox.sandbox_id not in ids(query=query([SandboxState.RUNNING])), "a paused one among running ones")
    resumed = Sandbox.connect(sandbox.sandbox_id, timeout=400)
    info = resumed.get_info()
    check(info.state == SandboxState.RUNNING and info.metadata["run"] == RUN, info)
    check_near(info.end_at, in_seconds(400))


def errors(sandbox):
    check_raises(NotFoundException, lambda: Sandbox.get_info("nope"), "not found")
    check_raises(NotFoundException, lambda: Sandbox.connect("nope"), "not found")
    check_raises(NotFoundException, lambda: Sandbox.set_timeout("nope", 60), "not found")
    check(Sandbox.kill("nope") is False, "a kill of nothing")
    check_raises(SandboxException, lambda: Sandbox.create(f"no-such-template-{RUN}"), "404")
    for timeout in (-1, 10**9):
        check_raises(SandboxException, lambda: Sandbox.create(TEMPLATE, timeout=timeout), "400")
    unknown_key = {"api_key": "e2b_00"}
    check_raises(AuthenticationException, lambda: Sandbox.get_info(sandbox.sandbox_id, **unknown_key), "401")
    if OTHER_KEY:
        other = {"api_key": OTHER_KEY}
        check_raises(NotFoundException, lambda: Sandbox.get_info(sandbox.sandbox_id, **other))
        check(Sandbox.kill(sandbox.sandbox_id, **other) is False, "a kill by somebody else")
        check(Sandbox.get_info(sandbox.sandbox_id).state == SandboxState.RUNNING, "killed by somebody else")
        check(ids(query=query(), **other) == [], "a list of somebody else")


def kill(made):
    first, *rest = made
    check(first.kill() is True, "the first kill")
    check(first.kill() is False, "the second kill")
    check_raises(NotFoundException, first.get_info)
    left = sorted(sandbox.sandbox_id for sandbox in rest)
    check(sorted(ids(query=query())) == left, "the list after a kill")


def life():
    with Made() as made:
        create(made)
        first, second, _ = made.all
        get_info(first)
        list_sandboxes(made.all)
        timeouts(first)
        pause_and_resume(first)
        errors(second)
        kill(made.all)


def main():
    # The SDK reports every refusal that is expected here.
    logging.disable(logging.ERROR)
    life()
    edges.check_all()
    races.check_all()
    asynchronous.check_all()
    print("e2b", RELEASE, "passes")


def end():
    """Ends the process without the finalisation of the interpreter.

    The HTTP client of the newer SDKs, pyqwest, has threads of its own. One that asks for the interpreter's lock while
    the interpreter ends is unwound by Python before 3.14, which aborts the process, although every check has passed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
    end()
