"""What roles of one process can do for each other, which no message can ask for."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from elanus.engine.segment.base import Segment
from elanus.services.messages import SegmentHits, SegmentSearch


class LocalQueryNode(ABC):
    """A query node in the process of its caller.

    It searches the caller's growing segments after its own, in the same turn of the same thread.
    """

    @abstractmethod
    async def search_beside(self, request: SegmentSearch, others: Sequence[Segment]) -> SegmentHits:
        """The merged hits of the segments that are asked for and of ``others``, which the caller
        holds. Raises Unavailable as ``QueryNodeService.search`` does."""
