"""Recordings of song: reading, cutting and splitting them."""

from ._annotations import read_annotations as read_annotations
from ._derivatives import Differences as Differences
from ._derivatives import derivatives as derivatives
from ._recordings import Problem as Problem
from ._recordings import Recording as Recording
from ._recordings import Recordings as Recordings
from ._recordings import load_recordings as load_recordings
from ._sampler import Category as Category
from ._sampler import SamplerConfig as SamplerConfig
from ._sampler import Segments as Segments
from ._sampler import pool_counts as pool_counts
from ._sampler import sample_segments as sample_segments
from ._splits import Split as Split
from ._splits import split_files as split_files
from ._splits import stratified_split as stratified_split
from ._staging import Staged as Staged
from ._staging import stage_recordings as stage_recordings
from ._wav import read_wav as read_wav
from ._wav import write_wav as write_wav
from ._windows import ColdStart as ColdStart
from ._windows import MidVocalisation as MidVocalisation
from ._windows import cold_start_windows as cold_start_windows
from ._windows import mid_vocalisation_windows as mid_vocalisation_windows
