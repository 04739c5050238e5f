"""What a run leaves behind: its folder, and lines for people."""

from .client_totals import ClientTotals as ClientTotals
from .client_totals import client_totals as client_totals
from .clients_table import clients_table as clients_table
from .metrics import AnyLine as AnyLine
from .metrics import ClientEvaluationLine as ClientEvaluationLine
from .metrics import ServerEvaluationLine as ServerEvaluationLine
from .metrics import TrainingLine as TrainingLine
from .model_card import CardFacts as CardFacts
from .model_card import model_card as model_card
from .plan import PlanRecord as PlanRecord
from .run import Run as Run
from .run import read_run as read_run
from .run_folder import RunFolder as RunFolder
from .summary import summary as summary
