"""The benchmark of leases kills a client that holds one, or fails."""

import pytest

from benchmarks import budgets


def test_a_client_without_a_lease_is_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(budgets, "_free_cards", lambda: 0.6)
    budgets._await_lease(0.4)
    monkeypatch.setattr(budgets, "_free_cards", lambda: 1.0)
    with pytest.raises(RuntimeError, match="nothing was measured"):
        budgets._await_lease(0.4)
