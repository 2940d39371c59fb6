"""A whole model of song, what it is trained on, and how it sings."""

from ._gradient import clip_examples as clip_examples
from ._model import SongModel as SongModel
from ._objective import OneStepObjective as OneStepObjective
from ._objective import SongObjective as SongObjective
from ._scores import SongScores as SongScores
from ._scores import Sung as Sung
from ._scores import sing as sing
from ._tract import VocalTract as VocalTract
