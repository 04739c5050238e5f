"""What the tests of trials share."""

import pytest

from benchmarks.trial import Examples


@pytest.fixture(scope="session")
def examples() -> Examples:
    """Two clients' parts, of unequal size."""
    loaded = Examples.load(
        model="llama-tiny",
        dataset="restaurants",
        num_clients=2,
        seed=3,
        evaluation_examples=4,
        max_length=192,
    )
    assert len(loaded.parts[0]) != len(loaded.parts[1])
    return loaded
