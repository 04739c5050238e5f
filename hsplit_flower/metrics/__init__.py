"""What training and evaluation report: sums and counts, which add up over batches and clients."""

from .perplexity import TokenLoss as TokenLoss
from .perplexity import count_label_tokens as count_label_tokens
from .perplexity import label_targets as label_targets
from .perplexity import next_labels as next_labels
from .perplexity import summed_token_loss as summed_token_loss
from .perplexity import token_loss as token_loss
