"""The options of all commands that read a model."""

from ..settings import Model
from .options import Offer

# Whoever plans for a model, or serves one, says which: the built-in one is for trying things.
MODEL = Offer(group=Model, names={"name": ("--model",)}, required=("name",))
