"""What the parts of contract.py share: the environment, checks, and calls whose names differ between SDKs."""

import importlib.metadata
import inspect
import os
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

from e2b import Sandbox, SandboxQuery, SandboxState
from e2b.exceptions import NotFoundException, SandboxException

RELEASE = importlib.metadata.version("e2b")
VERSION = tuple(int(part) for part in RELEASE.split(".")[:2])
# From 2.51 on, the SDK speaks the second dialect, and tells whether a pause had an effect.
SECOND_DIALECT = VERSION >= (2, 51)

TEMPLATE = os.environ.get("TPL", "code-interpreter")
OTHER_KEY = os.environ.get("OTHER_KEY")
RUN = uuid.uuid4().hex[:8]
BOTH_STATES = [SandboxState.RUNNING, SandboxState.PAUSED]
# Extensions of this API are metadata with this prefix.
EXTENSION = "e2b.agents.kruise.io/"
# Only a failing check waits so long, in seconds.
DEADLINE = 120


def now():
    return datetime.now(timezone.utc)


def in_seconds(seconds):
    return now() + timedelta(seconds=seconds)


def check(condition, *what):
    if not condition:
        raise AssertionError(what)


def check_near(time, expected, tolerance=15):
    check(abs((time - expected).total_seconds()) <= tolerance, "time", time, "expected", expected)


def check_raises(exception, call, text=None):
    try:
        result = call()
    except exception as error:
        check(text is None or text in str(error), "text of the error", str(error), "expected", text)
        return
    raise AssertionError(f"expected {exception.__name__}, got {result!r}")


def check_refused(call, status, text=""):
    """The API refuses the call with this HTTP status, and says why."""
    check_raises(SandboxException, call, str(status))
    check_raises(SandboxException, call, text)


def until(what, probe):
    """Waits until the probe returns something true, and returns it."""
    end = time.monotonic() + DEADLINE
    while not (result := probe()):
        check(time.monotonic() < end, "never", what)
        time.sleep(0.1)
    return result


def pages(**arguments):
    paginator = Sandbox.list(**arguments)
    result = []
    while paginator.has_next:
        result.append([sandbox.sandbox_id for sandbox in paginator.next_items()])
    return result


def ids(**arguments):
    return [sandbox_id for page in pages(**arguments) for sandbox_id in page]


def query(state=None, **metadata):
    arguments = {"metadata": {"run": RUN, **metadata}}
    if state is not None:
        arguments["state"] = state
    return SandboxQuery(**arguments)


def pause(sandbox):
    return sandbox.pause() if hasattr(sandbox, "pause") else sandbox.beta_pause()


def is_paused(sandbox):
    return sandbox.get_info().state == SandboxState.PAUSED


def is_gone(sandbox):
    try:
        sandbox.get_info()
    except NotFoundException:
        return True
    return False


def takes(call, argument):
    """True if this SDK knows the argument."""
    return argument in inspect.signature(call).parameters


class Made:
    """The sandboxes that a test has made. At its end they are killed."""

    def __init__(self):
        self.all = []

    def __enter__(self):
        return self

    def create(self, template=TEMPLATE, timeout=120, metadata=None, **arguments):
        metadata = {"run": RUN, **(metadata or {})}
        sandbox = Sandbox.create(template, timeout=timeout, metadata=metadata, **arguments)
        self.all.append(sandbox)
        return sandbox

    def __exit__(self, *_):
        def kill(sandbox):
            try:
                sandbox.kill()
            except Exception as error:  # The cause is reported by what failed first.
                print("cleanup of", sandbox.sandbox_id, error)

        at_once([lambda sandbox=sandbox: kill(sandbox) for sandbox in self.all])


def at_once(calls):
    """Makes all calls at the same time. Returns their results; an exception that was raised is a result."""

    def outcome(call):
        try:
            return call()
        except Exception as error:
            return error

    if not calls:
        return []
    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(outcome, calls))
