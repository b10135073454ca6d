"""The asynchronous client of the SDK, which has its own code for every request."""

import asyncio

from e2b import AsyncSandbox, SandboxState
from e2b.exceptions import NotFoundException

from common import RUN, SECOND_DIALECT, TEMPLATE, check, check_near, in_seconds, query


async def pause(sandbox):
    return await (sandbox.pause() if hasattr(sandbox, "pause") else sandbox.beta_pause())


async def create(number):
    metadata = {"run": RUN, "async": str(number)}
    return await AsyncSandbox.create(TEMPLATE, timeout=120, metadata=metadata)


async def ids(**arguments):
    paginator = AsyncSandbox.list(**arguments)
    result = []
    while paginator.has_next:
        result += [sandbox.sandbox_id for sandbox in await paginator.next_items()]
    return result


async def is_gone(sandbox):
    try:
        await sandbox.get_info()
    except NotFoundException:
        return True
    return False


async def life(made):
    made += await asyncio.gather(*(create(number) for number in range(5)))
    expected = sorted(sandbox.sandbox_id for sandbox in made)
    check(len(set(expected)) == 5, "given twice", expected)
    check(sorted(await ids(query=query(), limit=2)) == expected, "pages")
    sandbox = made[0]
    await sandbox.set_timeout(600)
    info = await sandbox.get_info()
    check(info.metadata["async"] == "0" and info.template_id == TEMPLATE, info)
    check_near(info.end_at, in_seconds(600))
    first, second = await pause(sandbox), await pause(sandbox)
    check(not SECOND_DIALECT or (first, second) == (True, False), "pauses", first, second)
    check(await ids(query=query([SandboxState.PAUSED])) == [sandbox.sandbox_id], "paused ones")
    await asyncio.gather(*(AsyncSandbox.connect(sandbox.sandbox_id, timeout=300) for _ in range(3)))
    info = await sandbox.get_info()
    check(info.state == SandboxState.RUNNING, info)
    check_near(info.end_at, in_seconds(300))
    check(await sandbox.kill() is True and await sandbox.kill() is False, "kills")
    check(await is_gone(sandbox), "not gone")
    check(await AsyncSandbox.kill("nope") is False, "a kill of nothing")


async def all_of_it():
    made = []
    try:
        await life(made)
    finally:
        await asyncio.gather(*(sandbox.kill() for sandbox in made), return_exceptions=True)


def check_all():
    asyncio.run(all_of_it())
