"""How bytes travel: channels, streams, deadlines, and errors as gRPC's statuses."""
