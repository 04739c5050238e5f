"""``python -m benchmarks.faults`` prints the table of docs/reliability.md."""

from benchmarks.faults.table import fault_table

if __name__ == "__main__":
    print(fault_table(), end="")
