"""What several callers do at once, with one sandbox and with one pool."""

from e2b import SandboxState
from e2b.exceptions import SandboxException

from common import (
    EXTENSION,
    SECOND_DIALECT,
    Made,
    at_once,
    check,
    check_near,
    ids,
    in_seconds,
    is_gone,
    is_paused,
    pause,
    query,
)

# More than a pool keeps ready.
BURST = 50


def succeeded(results):
    failures = [result for result in results if isinstance(result, Exception)]
    check(not failures, "failures", [repr(failure) for failure in failures])
    return results


def burst(made, name, **extensions):
    """Creates many at once. Returns the exceptions of those that were refused."""
    metadata = {"burst": name, **{EXTENSION + key: value for key, value in extensions.items()}}
    results = at_once([lambda: made.create(metadata=metadata)] * BURST)
    refused = [result for result in results if isinstance(result, Exception)]
    created = [result.sandbox_id for result in results if not isinstance(result, Exception)]
    check(len(set(created)) == len(created) > 0, "given twice, or none at all", created, refused)
    check(sorted(ids(query=query(burst=name))) == sorted(created), "claimed, and given to nobody")
    return refused


def creates_beyond_the_pool(made):
    refused = burst(made, "created")
    check(not refused, "refused", [repr(error) for error in refused])


def creates_without_stock(made):
    for error in burst(made, "stock", **{"create-on-no-stock": "false"}):
        # Its class differs between SDKs.
        check(str(error).startswith("503: "), "no clean refusal", repr(error))


def pauses(made):
    sandbox = made.create()
    results = succeeded(at_once([lambda: pause(sandbox)] * 6))
    check(not SECOND_DIALECT or set(results) <= {True, False} and True in results, "pauses", results)
    check(is_paused(sandbox), "not paused")
    # All of them succeed, and the longest time wins.
    succeeded(at_once([lambda seconds=seconds: sandbox.connect(timeout=seconds) for seconds in (60, 900, 300, 120)]))
    info = sandbox.get_info()
    check(info.state == SandboxState.RUNNING, info)
    check_near(info.end_at, in_seconds(900), 30)


def pauses_and_connects(made):
    """Each call takes effect or is refused as a conflict. At no moment the sandbox is not found."""
    sandbox = made.create()
    calls = [lambda: pause(sandbox), lambda: sandbox.connect(timeout=300), lambda: sandbox.get_info().state]
    for result in at_once(calls * 4):
        is_conflict = isinstance(result, SandboxException) and "409" in str(result)
        check(is_conflict or not isinstance(result, Exception), "neither done nor refused", repr(result))
    check(ids(query=query()) == [sandbox.sandbox_id], "not listed")
    sandbox.connect(timeout=300)
    check(sandbox.get_info().state == SandboxState.RUNNING, "not running")


def kills(made):
    sandbox = made.create()
    results = succeeded(at_once([sandbox.kill] * 4))
    check(set(results) <= {True, False} and True in results, "kills", results)
    check(is_gone(sandbox), "not gone")


def kill_during_a_pause(made):
    sandbox = made.create()
    at_once([lambda: pause(sandbox), sandbox.kill])
    sandbox.kill()
    check(is_gone(sandbox), "not gone")
    check(ids(query=query()) == [], "listed")


def check_all():
    for part in [
        creates_beyond_the_pool,
        creates_without_stock,
        pauses,
        pauses_and_connects,
        kills,
        kill_during_a_pause,
    ]:
        with Made() as made:
            part(made)
