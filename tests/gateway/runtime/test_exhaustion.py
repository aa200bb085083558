import errno

import pytest

from gateway.runtime.exhaustion import SILENCE, Repeated, shortage_in


def test_what_goes_on_is_said_once_in_a_while_with_its_count() -> None:
    repeated = Repeated()
    begun = 5.0
    assert [repeated.happened(begun + step / 8) for step in range(10)] == [1] + [0] * 9
    assert repeated.happened(begun + SILENCE) == 10
    assert repeated.happened(begun + SILENCE + 1) == 0
    assert repeated.happened(begun + 3 * SILENCE) == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.EMFILE, "Too many open files", "/lib/module.py"), errno.EMFILE),
        (ImportError("/lib/module.so: cannot open shared object file: Too many open files"), errno.EMFILE),
        (ImportError("/lib/module.so: failed to map segment: Cannot allocate memory"), errno.ENOMEM),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), None),
        (ModuleNotFoundError("No module named 'module'"), None),
        (ValueError("Too many open files"), None),
    ],
    ids=str,
)
def test_shortage_is_known_by_its_number_and_by_its_words(error: Exception, code: int | None) -> None:
    shortage = shortage_in(error)
    assert (shortage and shortage.errno) == code
