"""How a model sings alone: the published autonomy score and a stricter one, the onset, synthesis. All in NumPy."""

from ._onset import OnsetQuality as OnsetQuality
from ._onset import onset_quality as onset_quality
from ._published import AutonomyReport as AutonomyReport
from ._published import AutonomyScore as AutonomyScore
from ._published import autonomy as autonomy
from ._published import autonomy_report as autonomy_report
from ._published import detrend as detrend
from ._strict import StrictReport as StrictReport
from ._strict import StrictScore as StrictScore
from ._strict import strict_autonomy as strict_autonomy
from ._strict import strict_autonomy_report as strict_autonomy_report
from ._synthesis import OneStepR2 as OneStepR2
from ._synthesis import deployed as deployed
from ._synthesis import one_step_r2 as one_step_r2
from ._synthesis import peak_normalise as peak_normalise
from ._synthesis import write_generated as write_generated
