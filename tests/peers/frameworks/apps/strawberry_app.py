"""A GraphQL schema by Strawberry: queries, a mutation, and a subscription to what it changes.

It has no lifespan: asked for one, it raises.
"""

import asyncio
from collections.abc import AsyncIterator

import strawberry
from strawberry.asgi import GraphQL
from strawberry.exceptions.handler import reset_exception_handler

# It prints what ends a thread, also of the applications beside it, past the log.
reset_exception_handler()

counter = 0
changed: set[asyncio.Queue[int]] = set()
nobody = asyncio.Event()


@strawberry.type
class Query:
    @strawberry.field
    def hello(self, name: str = "world") -> str:
        return f"Hello, {name}!"

    @strawberry.field
    async def subscribers(self) -> int:
        return len(changed)

    @strawberry.field
    async def subscribers_have_left(self) -> bool:
        """Answers when they have."""
        await nobody.wait()
        return True


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def count(self, by: int) -> int:
        global counter
        counter += by
        for queue in changed:
            queue.put_nowait(counter)
        return counter


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def counts(self) -> AsyncIterator[int]:
        queue: asyncio.Queue[int] = asyncio.Queue()
        changed.add(queue)
        nobody.clear()
        try:
            yield counter
            while True:
                yield await queue.get()
        finally:
            changed.remove(queue)
            if not changed:
                nobody.set()

    @strawberry.subscription
    async def up_to(self, last: int) -> AsyncIterator[int]:
        for number in range(1, last + 1):
            yield number


app: GraphQL[None, None] = GraphQL(
    strawberry.Schema(query=Query, mutation=Mutation, subscription=Subscription)
)
