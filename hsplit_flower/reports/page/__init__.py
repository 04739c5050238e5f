"""A page about a run, for people who were not there: one HTML file, pictures and tables in it."""

from .document import page as page
from .writing import REPORT_FILE as REPORT_FILE
from .writing import write_report as write_report
