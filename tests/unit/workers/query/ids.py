"""An oracle of ids and timestamps that counts."""


class Ids:
    last = 100

    async def allocate_ids(self, count: int = 1) -> int:
        self.last += count
        return self.last

    allocate_timestamps = allocate_ids
