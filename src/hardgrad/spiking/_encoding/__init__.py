"""Numbers as spikes, and spikes as bits."""

from ._augment import shift_augment as shift_augment
from ._bits import check_bits as check_bits
from ._bits import pack_bits as pack_bits
from ._bits import unpack_bits as unpack_bits
from ._codes import angle_code as angle_code
from ._codes import delta_code as delta_code
from ._codes import latency_code as latency_code
from ._codes import rate_code as rate_code
