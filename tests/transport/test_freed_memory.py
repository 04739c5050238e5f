"""Memory that was freed: kept for the next message, and given back when asked for."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc is what has the calls")

MEASURED = """
import resource, sys, threading

is_kept = sys.argv[1] == "keep"
if is_kept:
    import psutil
    from hsplit_flower.transport.freed_memory import give_freed_memory_back, keep_freed_memory

    keep_freed_memory()


def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def messages():
    # Sizes as when a message is copied, in a thread that begins after the choice.
    for _ in range(4):
        copies = [bytearray(9 * 2**20) for _ in range(3)]
        del copies
    before = faults()
    for _ in range(10):
        copies = [bytearray(9 * 2**20) for _ in range(3)]
        del copies
    print((faults() - before) // 10)


thread = threading.Thread(target=messages)
thread.start()
thread.join()
if is_kept:
    process = psutil.Process()
    held = process.memory_info().rss
    give_freed_memory_back()
    print((held - process.memory_info().rss) // 2**20)
"""

RETURNED = """
import sys, threading, time
import psutil
from hsplit_flower.transport.freed_memory import give_freed_memory_back, keep_freed_memory

if sys.argv[1] == "before":
    keep_freed_memory()
begun, held = threading.Barrier(5), threading.Barrier(5)


def message():
    small = bytearray(2**10)
    begun.wait()
    held.wait()
    large = bytearray(30 * 2**20)
    held.wait()
    del large
    held.wait()
    # A thread that ends lets go of its pool; those of a server wait.
    held.wait()


threads = [threading.Thread(target=message) for _ in range(4)]
for thread in threads:
    thread.start()
begun.wait()
keep_freed_memory()
rss = psutil.Process().memory_info
before = rss().rss
for _ in range(3):
    held.wait()
give_freed_memory_back()
print((rss().rss - before) // 2**20)
held.wait()
"""


def _measured(choice: str) -> list[int]:
    """Pages asked for anew with each message, and, if kept, the MB that were given back."""
    return _printed(MEASURED, choice)


def _printed(program: str, choice: str) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", program, choice], capture_output=True, text=True, check=True
    )
    return [int(line) for line in done.stdout.split()]


def test_all_of_it_is_given_back_if_it_was_chosen_before_any_thread() -> None:
    (later,) = _printed(RETURNED, "later")
    (before,) = _printed(RETURNED, "before")
    assert later >= 30, "else there is no need to choose it before"
    assert before <= 5


def test_kept_memory_is_not_asked_for_again_and_can_be_given_back() -> None:
    pages, megabytes = _measured("keep")
    (by_default,) = _measured("default")
    assert by_default > 2000
    assert pages < 200
    assert megabytes >= 20
