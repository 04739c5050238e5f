"""What a run leaves behind: its folder, and lines for people."""

from .model_card import CardFacts as CardFacts
from .model_card import model_card as model_card
from .run_folder import RunFolder as RunFolder
