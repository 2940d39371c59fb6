"""The report of a run or a search: curves, schedules and tables in one HTML file that opens without a network."""

from ._figures import training_figures as training_figures
from ._report import write_report as write_report
from ._search_report import Curve as Curve
from ._search_report import write_search_report as write_search_report
from ._tables import Table as Table
