"""The messages that cross the network, and what is generated from their description."""
