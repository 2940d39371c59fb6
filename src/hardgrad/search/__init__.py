"""Searching: many runs that differ in seed or settings, the weak ones culled early, the best kept.

`search` compares `candidates`; an engine trains them: `Together` in one vmapped program, `Processes` each in its own,
`InTurn` one after another. For a recipe, ``hardgrad search RECIPE`` does all of it.
"""

from ._candidates import Candidate as Candidate
from ._candidates import Goal as Goal
from ._candidates import candidates as candidates
from ._engines import Ended as Ended
from ._engines import Engine as Engine
from ._engines import InTurn as InTurn
from ._engines import Processes as Processes
from ._engines import Task as Task
from ._engines import Together as Together
from ._folder import SearchFolder as SearchFolder
from ._folder import Setup as Setup
from ._gang import NotAlike as NotAlike
from ._search import SearchInterrupted as SearchInterrupted
from ._search import SearchResult as SearchResult
from ._search import search as search
from ._standing import Standing as Standing
from ._standing import State as State
from ._standing import ranked as ranked
from ._watch import Event as Event
from ._watch import Limits as Limits
from ._watch import Poll as Poll
from ._watch import poll_run as poll_run
from ._watch import poll_search as poll_search
