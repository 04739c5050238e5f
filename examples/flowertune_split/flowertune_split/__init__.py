"""A FlowerTune client that holds a part of the model in place of all of it."""
