"""A process that appends numbers to a log in Kafka and says on its standard output which are in.

Usage: python kafka_appender.py BROKERS PREFIX CLUSTER TERM. Ends with the error's name.
"""

import asyncio
import sys

from tests.worlds import running_world

from elanus.config.storage import KafkaSettings
from elanus.errors import ElanusError
from elanus.observability.logs import configure_logs
from elanus.storage.wal.kafka import KafkaWal


async def main(brokers: str, prefix: str, cluster: str, term: str) -> None:
    configure_logs("warning", "text")
    async with running_world() as world:
        wal = KafkaWal(world, KafkaSettings(broker_list=brokers), prefix, cluster)
        writer = await wal.open_writer("p", int(term))
        number = 0
        try:
            while True:
                group = [[b"%s:%d" % (term.encode(), number + n)] for n in range(10)]
                for position in await writer.append(group):
                    print(position, number, flush=True)
                    number += 1
        except ElanusError as error:
            print(type(error).__name__, flush=True)
        await wal.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
