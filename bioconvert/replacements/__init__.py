"""How the layers of a model become others, one file a family; importing this package registers them.

Nothing here imports torch before a model is at hand, so that rule files are checked without it.
"""

from __future__ import annotations

from bioconvert.replacements import dynamic as dynamic
from bioconvert.replacements import signal_insertions as signal_insertions
from bioconvert.replacements import yat as yat
from bioconvert.replacements import yat_attention as yat_attention
from bioconvert.replacements import yat_conv_transpose as yat_conv_transpose
from bioconvert.replacements import yat_embedding as yat_embedding
from bioconvert.replacements import yat_recurrent as yat_recurrent
