"""faiss without its type stubs, which know a part of it only."""

from typing import Any

import faiss as _faiss

faiss: Any = _faiss
