"""What training and evaluation report.

Loss and perplexity are sums and counts, which add up over batches and clients. The metrics of text
are of a whole test set, and never a mean of parts.
"""

from .nlg_item import NlgItem as NlgItem
from .nlg_item import group_references as group_references
from .nlg_scores import NlgScores as NlgScores
from .nlg_scores import check_metrics as check_metrics
from .nlg_scores import nlg_scores as nlg_scores
from .perplexity import TokenLoss as TokenLoss
from .perplexity import count_label_tokens as count_label_tokens
from .perplexity import label_targets as label_targets
from .perplexity import next_labels as next_labels
from .perplexity import summed_token_loss as summed_token_loss
from .perplexity import token_loss as token_loss
from .privacy_loss import USUAL_DELTA as USUAL_DELTA
from .privacy_loss import composed_mu as composed_mu
from .privacy_loss import gaussian_delta as gaussian_delta
from .privacy_loss import gaussian_epsilon as gaussian_epsilon
from .privacy_loss import gaussian_mu as gaussian_mu
