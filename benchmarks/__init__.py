"""What the project measures: every module here is one benchmark, ``harness`` runs them.

``python -m benchmarks --list`` names them; ``python -m benchmarks NAME --out FILE.json`` measures.
"""
