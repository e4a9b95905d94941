"""What every handler of the access layer works with."""

from typing import Any

from elanus.access.dql.direct import DirectSearch
from elanus.access.dql.repeated import KnownRequests
from elanus.access.limits.limiter import Limiter
from elanus.access.lru import LruCache
from elanus.access.meta_cache import MetaCache
from elanus.config.settings import Settings
from elanus.runtime.world import World
from elanus.services.interfaces import CoordinatorService
from elanus.services.routing import Router

MAX_CACHED_PLANS = 1_024
MAX_REMEMBERED_SEARCHES = 1_024


class Proxy:
    """The stateless front: it owns nothing but caches.

    meta: collections, remembered until they change.
    direct: how searches come to shards; query nodes are asked by the proxy itself only if they are
    processes of their own.
    limits: which requests are admitted.
    plans: parsed filters by whatever their parser chooses as the key.
    searches, known_requests: what was asked for by searches that may come again, and as which
    bytes they came: see ``dql.repeated``.
    """

    def __init__(
        self,
        world: World,
        settings: Settings,
        coordinator: CoordinatorService,
        router: Router,
        *,
        asks_query_nodes: bool = False,
    ) -> None:
        self.world = world
        self.settings = settings
        self.coordinator = coordinator
        self.router = router
        self.meta = MetaCache(coordinator, world.tasks)
        self.direct = DirectSearch(world, router, is_used=asks_query_nodes)
        self.limits = Limiter(world.clock, settings.quota_and_limits, self.meta, coordinator)
        self.plans: LruCache[Any, Any] = LruCache(MAX_CACHED_PLANS)
        self.searches: LruCache[Any, Any] = LruCache(MAX_REMEMBERED_SEARCHES)
        self.known_requests = KnownRequests()
        self.node_id = 1
        self.started_ms = world.clock.now_ms()
