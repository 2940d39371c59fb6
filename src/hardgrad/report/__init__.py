"""The report of a run: its curves and schedules, and one HTML file that opens without a network."""

from ._figures import training_figures as training_figures
from ._report import write_report as write_report
from ._tables import Table as Table
