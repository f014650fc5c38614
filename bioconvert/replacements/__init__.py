"""How the layers of a model become others, one file a family; importing this package registers them.

Nothing here imports torch before a model is at hand, so that rule files are checked without it.
"""

from __future__ import annotations

from bioconvert.replacements import yat as yat
