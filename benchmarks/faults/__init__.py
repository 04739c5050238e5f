"""Faults as data: who fails, when and how, and what that may cost; a run to try them on."""
