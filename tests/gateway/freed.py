"""Objects that are to be freed when they are done, not when somebody looks for cycles."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def freed_without_the_collector(kind: type, *, in_hand: int = 0) -> Iterator[None]:
    """Nothing is left of the objects of *kind* that are made meanwhile, but for *in_hand*."""

    def new() -> list[object]:
        return [each for each in gc.get_objects(generation=0) if type(each) is kind]

    # Not of all that other tests have left, which takes long in the end: it makes that older, and while the
    # collector rests nothing else grows old.
    gc.collect(0)
    gc.disable()
    before = new()  # Where there are no generations; held, so that no new one takes an address of theirs.
    try:
        yield
        known = {id(each) for each in before}
        left = [each for each in new() if id(each) not in known]
    finally:
        gc.enable()
    assert len(left) <= in_hand, left
