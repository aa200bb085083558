"""Objects that are to be freed when they are done, not when somebody looks for cycles."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def freed_without_the_collector(kind: type, *, in_hand: int = 0) -> Iterator[None]:
    """Nothing is left of the objects of *kind* that are made meanwhile, but for *in_hand*."""

    def all_of_it() -> list[object]:
        return [each for each in gc.get_objects() if type(each) is kind]

    gc.collect()
    before = all_of_it()  # What other tests have left; held, so that no new one takes an address of theirs.
    gc.disable()
    try:
        yield
        known = {id(each) for each in before}
        left = [each for each in all_of_it() if id(each) not in known]
    finally:
        gc.enable()
    assert len(left) <= in_hand, left
