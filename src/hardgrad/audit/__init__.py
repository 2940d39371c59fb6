"""May this gradient be trusted? Agreement with the loss itself, noise, growth, and what to try next."""

from ._agreement import Agreement as Agreement
from ._audit import audit as audit
from ._case import AuditCase as AuditCase
from ._growth import Growth as Growth
from ._noise import Averaged as Averaged
from ._noise import Scatter as Scatter
from ._result import Audit as Audit
from ._result import Verdict as Verdict
from ._shares import Blind as Blind
from ._shares import Rows as Rows
from ._statistics import Interval as Interval
