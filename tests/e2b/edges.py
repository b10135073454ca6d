"""The limits of each call: what an SDK can send, and every answer that it must understand."""

import os
import uuid

from e2b import Sandbox, SandboxQuery, SandboxState, Template
from e2b.exceptions import NotFoundException

from common import (
    EXTENSION,
    RUN,
    TEMPLATE,
    Made,
    check,
    check_near,
    check_raises,
    check_refused,
    ids,
    in_seconds,
    is_gone,
    is_paused,
    now,
    pages,
    pause,
    query,
    takes,
    until,
)

TEAM = os.environ.get("TEAM", "default")
UNKNOWN_IDS = ["nope", "a/b", "a b", "x" * 300, f"{TEAM}--nope"]


def metadata(made):
    odd = {"schlüssel ✓": "größe = 100% & +1", "empty": "", "percent": "a%20b+c", "a/b": "c d"}
    sandbox = made.create(metadata=odd)
    found = sandbox.get_info().metadata
    check(all(found.get(key) == value for key, value in odd.items()), "metadata", found)
    for key, value in odd.items():
        check(ids(query=query(**{key: value})) == [sandbox.sandbox_id], "by", key)
        check(ids(query=query(**{key: value + "x"})) == [], "by a wrong", key)
    check(ids(query=query(**odd)) == [sandbox.sandbox_id], "by all of them")
    check(ids(query=query(**{**odd, "empty": "x"})) == [], "by all of them, one of them wrong")
    for key in ["agents.kruise.io/owner", f"{EXTENSION}unknown"]:
        check_refused(lambda: made.create(metadata={key: "x"}), 400, key)
    check_refused(lambda: made.create(metadata={"big": "x" * 300_000}), 400)
    check_refused(lambda: made.create(envs={"BIG": "x" * 300_000}), 400)


def templates(made):
    for name in [f"{TEMPLATE}:default", f"{TEAM}/{TEMPLATE}", f"{TEAM}/{TEMPLATE}:default"]:
        check(made.create(name).get_info().template_id == TEMPLATE, name)
    for name in [f"{TEMPLATE}:v2", f"elsewhere/{TEMPLATE}", "", "ü"]:
        # An empty one is the default of the SDK, `base`, which does not exist.
        check_refused(lambda: Sandbox.create(name or None), 404)
    exists = getattr(Template, "exists", None) or getattr(Template, "alias_exists", None)
    if exists:
        check(exists(TEMPLATE) is True, "the template exists")
        check(exists(f"no-such-template-{RUN}") is False, "no such template")


def options_of_create(made):
    made.create(allow_internet_access=True).kill()
    # The set of these servers refers to a SandboxTemplate, so no pod could have the label that a network policy acts on.
    check_refused(lambda: made.create(allow_internet_access=False), 400, "allow_internet_access")
    check_refused(lambda: made.create(network={"allow_out": ["192.0.2.1"]}), 400, "network")
    if takes(Sandbox.create, "volume_mounts"):
        check_refused(lambda: made.create(volume_mounts={"/data": "volume"}), 400, "volumeMounts")
    endless = made.create(metadata={f"{EXTENSION}never-timeout": "true"})
    check(endless.get_info().end_at.year == 9999, endless.get_info().end_at)
    endless.set_timeout(60)
    check_near(endless.get_info().end_at, in_seconds(60))


def repeated_create(made):
    headers = {"Idempotency-Key": f"{RUN}-{uuid.uuid4()}"}
    first, second = (made.create(metadata={"n": "1"}, headers=headers) for _ in range(2))
    check(first.sandbox_id == second.sandbox_id, "one key, two sandboxes", first.sandbox_id, second.sandbox_id)
    check_refused(lambda: made.create(metadata={"n": "2"}, headers=headers), 422)


def pause_by_id(sandbox_id):
    return Sandbox.pause(sandbox_id) if hasattr(Sandbox, "pause") else Sandbox.beta_pause(sandbox_id)


def unknown_ids(_):
    for unknown in UNKNOWN_IDS:
        check_raises(NotFoundException, lambda: Sandbox.get_info(unknown))
        check_raises(NotFoundException, lambda: Sandbox.connect(unknown))
        check_raises(NotFoundException, lambda: Sandbox.set_timeout(unknown, 60))
        check_raises(NotFoundException, lambda: pause_by_id(unknown))
        check(Sandbox.kill(unknown) is False, "a kill of", unknown)


def times(made):
    sandbox = made.create()
    for timeout in (-1, 10**9):
        check_refused(lambda: sandbox.set_timeout(timeout), 400)
        check_refused(lambda: sandbox.connect(timeout=timeout), 400)
        check_refused(lambda: made.create(timeout=timeout), 400)
    check_near(sandbox.get_info().end_at, in_seconds(120))
    pause(sandbox)
    check_refused(lambda: sandbox.set_timeout(60), 409)
    # The time in which it was paused does not count.
    sandbox.connect(timeout=60)
    check_near(sandbox.get_info().end_at, in_seconds(60))


def the_end(made):
    """A sandbox whose time is over is gone, for every call."""
    sandbox = made.create(timeout=2, metadata={"n": "over"})
    until("the sandbox is over", lambda: is_gone(sandbox))
    check(ids(query=query(n="over")) == [], "a list of one that is over")
    check_raises(NotFoundException, sandbox.connect)
    check_raises(NotFoundException, lambda: sandbox.set_timeout(60))
    check_raises(NotFoundException, lambda: pause(sandbox))
    check(sandbox.kill() is False, "a kill of one that is over")


def pause_at_the_end(made):
    if takes(Sandbox.create, "lifecycle"):
        sandbox = made.create(timeout=3, lifecycle={"on_timeout": "pause"})
    elif hasattr(Sandbox, "beta_create"):
        sandbox = Sandbox.beta_create(TEMPLATE, timeout=3, auto_pause=True, metadata={"run": RUN})
        made.all.append(sandbox)
    else:
        return
    until("the sandbox is paused", lambda: is_paused(sandbox))
    sandbox.connect(timeout=60)
    info = sandbox.get_info()
    check(info.state == SandboxState.RUNNING, info)
    check_near(info.end_at, in_seconds(60))
    pause(sandbox)
    check(sandbox.kill() is True, "a kill of a paused one")
    check(sandbox.kill() is False, "its second kill")


def lists(made):
    wanted = query(list="1")
    first = [made.create(metadata={"list": "1"}).sandbox_id for _ in range(4)]
    check([len(page) for page in pages(query=wanted, limit=4)] == [4], "the last page is full")
    check([len(page) for page in pages(query=wanted, limit=3)] == [3, 1], "the last page is not full")
    check(pages(query=query(list="2")) == [[]], "an empty list is one page")
    check_refused(Sandbox.list(limit=101).next_items, 400)
    check_refused(Sandbox.list(next_token="nonsense").next_items, 400)

    # What is created between two pages neither hides nor repeats another one.
    paginator = Sandbox.list(query=wanted, limit=2)
    seen = [sandbox.sandbox_id for sandbox in paginator.next_items()]
    token = paginator.next_token
    check_refused(Sandbox.list(query=query(list="2"), next_token=token).next_items, 400)
    made.create(metadata={"list": "1"})
    while paginator.has_next:
        seen += [sandbox.sandbox_id for sandbox in paginator.next_items()]
    check(len(seen) == len(set(seen)) and set(first) <= set(seen), "pages", seen, "expected", first)
    if takes(Sandbox.list, "order"):
        check_refused(Sandbox.list(query=wanted, order="asc", next_token=token).next_items, 400)
        unknown = SandboxQuery(metadata={"run": RUN}, template=f"no-such-template-{RUN}")
        check(ids(query=unknown) == [], "a template that does not exist")
        earlier = SandboxQuery(metadata={"run": RUN, "list": "1"}, started_after=now().replace(year=2020))
        check(set(first) <= set(ids(query=earlier)), "started_after")


def what_is_not_there(made):
    """Calls that this API does not have are refused as such, and leave the sandbox as it is."""
    sandbox = made.create()
    check(sandbox.get_metrics() == [], "metrics")
    calls = {
        "create_snapshot": (),
        "fork": (),
        "update_network": ({"allow_out": ["192.0.2.1"]},),
    }
    for name, arguments in calls.items():
        if hasattr(sandbox, name):
            check_refused(lambda: getattr(sandbox, name)(*arguments), 501)
    if hasattr(Sandbox, "list_snapshots"):
        check_refused(lambda: Sandbox.list_snapshots().next_items(), 501)
        check_refused(lambda: Sandbox.delete_snapshot("snapshot"), 501)
    check(sandbox.get_info().state == SandboxState.RUNNING, "after what is not there")


def with_block(_):
    with Sandbox.create(TEMPLATE, timeout=60, metadata={"run": RUN}) as sandbox:
        check(not is_gone(sandbox), "within the block")
    check(is_gone(sandbox), "after the block")


def check_all():
    for part in [
        metadata,
        templates,
        options_of_create,
        repeated_create,
        unknown_ids,
        times,
        the_end,
        pause_at_the_end,
        lists,
        what_is_not_there,
        with_block,
    ]:
        with Made() as made:
            part(made)
