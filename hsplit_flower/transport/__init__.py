"""How client, worker and strategy reach each other: codec, messages, streams, error mapping."""
