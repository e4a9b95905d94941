"""Runs with the client's environment: ``changes.py <uri>``. Changes things through one connection
and asks for them through others at once: no answer may be older than the change."""

import sys

from pymilvus import DataType, MilvusClient, MilvusException

ROUNDS, CONNECTIONS, DIM = 50, 6, 4


def schema():
    made = MilvusClient.create_schema(auto_id=False)
    made.add_field("id", DataType.INT64, is_primary=True)
    made.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    return made


def fields(client, name):
    return [field["name"] for field in client.describe_collection(name)["fields"]]


def is_unknown(client, name):
    try:
        client.describe_collection(name)
    except MilvusException as error:
        return error.code == 100
    return False


def step(number, changer, readers):
    name, other, alias = f"changes_{number}", f"changed_{number}", "changes_alias"
    changer.create_collection(name, schema=schema())
    for reader in readers:
        assert fields(reader, name) == ["id", "vector"], "created"
    changer.create_partition(name, "p")
    for reader in readers:
        assert reader.has_partition(name, "p"), "partition"
    changer.add_collection_field(name, "later", DataType.INT64, nullable=True)
    for reader in readers:
        assert fields(reader, name) == ["id", "vector", "later"], "field"
    change = changer.create_alias if number == 0 else changer.alter_alias
    change(name, alias)
    for reader in readers:
        assert reader.describe_collection(alias)["collection_name"] == name, "alias"
    changer.rename_collection(name, other)
    for reader in readers:
        assert is_unknown(reader, name), "renamed, the old name"
        assert fields(reader, other) == ["id", "vector", "later"], "renamed"
    if number:
        before = f"changed_{number - 1}"
        changer.drop_collection(before)
        for reader in readers:
            assert is_unknown(reader, before), "dropped"


def main():
    clients = [MilvusClient(uri=sys.argv[1], dedicated=True) for _ in range(CONNECTIONS)]
    for number in range(ROUNDS):
        changer = clients[number % CONNECTIONS]
        step(number, changer, [client for client in clients if client is not changer])
    clients[0].drop_alias("changes_alias")
    clients[0].drop_collection(f"changed_{ROUNDS - 1}")


if __name__ == "__main__":
    main()
