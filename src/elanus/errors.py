"""The one error tree. Each error knows Milvus's code, whose fault it is and whether to retry.

::

    ElanusError                        65535
    ├── InputError                     (the user's fault)
    │   ├── InvalidParameter            1100   ── FilterError (with its position)
    │   ├── MissingParameter            1101
    │   ├── ParameterTooLarge           1102
    │   ├── Rejected                   65535   (a rule that Milvus 2.6 gives no code of its own)
    │   ├── CollectionNotFound           100
    │   ├── CollectionNotLoaded          101
    │   ├── CollectionLimit              102
    │   ├── CollectionAlreadyLoaded      104
    │   ├── IllegalSchema                105
    │   ├── SchemaMismatch               109
    │   ├── PartitionNotFound            200
    │   ├── PartitionNotLoaded           201
    │   ├── CapacityExceeded             250
    │   ├── ResourceGroupNotFound        300
    │   ├── ResourceGroupExists          301
    │   ├── ResourceGroupLimit           302
    │   ├── ResourceGroupIllegalConfig   303
    │   ├── ResourceGroupNodeNotEnough   304
    │   ├── IndexNotFound                700
    │   ├── IndexDuplicate               702
    │   ├── DatabaseNotFound             800
    │   ├── DatabaseLimit                801
    │   ├── InvalidDatabaseName          802
    │   ├── MetricNotFound              1200
    │   ├── AliasNotFound               1600
    │   ├── AliasConflict               1601
    │   ├── AliasExists                 1602
    │   ├── FieldNotFound               1700
    │   ├── InvalidFieldName            1701
    │   └── ImportFailed                2100
    ├── Unavailable                      2     retriable
    │   ├── NotReady                     1     retriable
    │   ├── NotServed                    2     retriable: refused before anything was done
    │   ├── CollectionNotFullyLoaded   103     retriable
    │   ├── DiskFull                     9     retriable by hand: quota exceeded
    │   ├── ResourceInsufficient        12     retriable
    │   └── TooManyRequests              4     retriable
    ├── MemoryLimitExceeded              3
    ├── RateLimited                      8     retriable
    ├── QuotaExceeded                    9
    ├── Unimplemented                   10
    ├── DeadlineExceeded             10001     retriable, with more time
    └── InternalError                    5
        ├── CorruptData               1001   (a damaged file or record, by name)
        └── FencedWriter               507   (an older term tried to write)

A message is composed as Milvus composes it: what went wrong, then ``[key=value]`` for the objects.
Only ``wire.status`` translates an error for the protocol, once, at the edge.
"""


class ElanusError(Exception):
    """Base of all. ``message`` is for the user: object, what was found, what was expected."""

    code = 65535
    retriable = False
    input_error = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InputError(ElanusError):
    input_error = True


class InvalidParameter(InputError):
    """``InvalidParameter("text", expected="a", actual="b")`` ends as Milvus's does:
    ``text: invalid parameter[expected=a][actual=b]``."""

    code = 1100

    def __init__(self, message: str, *, expected: str | None = None, actual: str | None = None):
        tail = "invalid parameter"
        if expected is not None:
            tail += f"[expected={expected}][actual={actual}]"
        super().__init__(f"{message}: {tail}" if message else tail)


class FilterError(InvalidParameter):
    """A filter that can't be used. ``position`` is the 0-based character offset of the fault."""

    def __init__(self, message: str, *, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position


class MissingParameter(InputError):
    code = 1101

    def __init__(self, message: str, parameter: str) -> None:
        super().__init__(f"{message}: missing parameter[missing_param={parameter}]")


class ParameterTooLarge(InputError):
    code = 1102


class Rejected(InputError):
    pass


class CollectionNotFound(InputError):
    code = 100

    def __init__(self, database: str, collection: str | int) -> None:
        super().__init__(f"can't find collection[database={database}][collection={collection}]")


class CollectionNotLoaded(InputError):
    code = 101

    def __init__(self, collection: str | int, action: str = "") -> None:
        prefix = f"{action}: " if action else ""
        super().__init__(f"{prefix}collection not loaded[collection={collection}]")


class CollectionLimit(InputError):
    code = 102

    def __init__(self, database: str, limit: int) -> None:
        super().__init__(
            f"exceeded the limit number of collections[dbName={database}][limit={limit}]"
        )


class CollectionAlreadyLoaded(InputError):
    code = 104

    def __init__(self, message: str, collection: str | int) -> None:
        super().__init__(f"{message}: collection already loaded[collection={collection}]")


class IllegalSchema(InputError):
    code = 105


class SchemaMismatch(InputError):
    code = 109

    def __init__(self, collection: str) -> None:
        super().__init__(
            f"the schema of the collection changed, describe it and send again: "
            f"collection schema mismatch[collection={collection}]"
        )


class PartitionNotFound(InputError):
    code = 200

    def __init__(self, partition: str | int, prefix: str = "") -> None:
        super().__init__(f"{prefix}partition not found[partition={partition}]")


class PartitionNotLoaded(InputError):
    code = 201

    def __init__(self, partition: str | int, action: str = "") -> None:
        prefix = f"{action}: " if action else ""
        super().__init__(f"{prefix}partition not loaded[partition={partition}]")


class IndexNotFound(InputError):
    code = 700

    def __init__(self, *, collection: str | None = None, index: str | None = None) -> None:
        what = f"indexName={index}" if index else f"collection={collection}"
        super().__init__(f"index not found[{what}]")


class IndexDuplicate(InputError):
    code = 702

    def __init__(self, message: str, index: str) -> None:
        super().__init__(f"{message}: index duplicates[indexName={index}]")


class CapacityExceeded(InputError):
    code = 250


class ResourceGroupNotFound(InputError):
    code = 300

    def __init__(self, name: str) -> None:
        super().__init__(f"resource group not found[rg={name}]")


class ResourceGroupExists(InputError):
    code = 301

    def __init__(self, name: str) -> None:
        super().__init__(
            f"resource group already exist, but create with different config[rg={name}]"
        )


class ResourceGroupLimit(InputError):
    code = 302

    def __init__(self, name: str, limit: int) -> None:
        super().__init__(f"resource group num reach limit[rg={name}][limit={limit}]")


class ResourceGroupIllegalConfig(InputError):
    code = 303

    def __init__(self, name: str, reason: str, config: object) -> None:
        super().__init__(f"{reason}: resource group illegal config[rg={name}][config={config}]")


class ResourceGroupNodeNotEnough(InputError):
    code = 304

    def __init__(self, name: str, current: int, expected: int) -> None:
        super().__init__(
            f"resource group node not enough[rg={name}][currentNodeNum={current}]"
            f"[expectedNodeNum={expected}]"
        )


class DatabaseNotFound(InputError):
    code = 800

    def __init__(self, database: str) -> None:
        super().__init__(f"database not found[database={database}]")


class DatabaseLimit(InputError):
    code = 801


class InvalidDatabaseName(InputError):
    code = 802

    def __init__(self, message: str, database: str) -> None:
        super().__init__(f"{message}: invalid database name[database={database}]")


class MetricNotFound(InputError):
    code = 1200

    def __init__(self, metric: str) -> None:
        super().__init__(f"metric not found[metric={metric}]")


class AliasNotFound(InputError):
    code = 1600

    def __init__(self, database: str, alias: str) -> None:
        super().__init__(f"alias not found[database={database}][alias={alias}]")


class AliasConflict(InputError):
    code = 1601

    def __init__(self, message: str, database: str, alias: str) -> None:
        super().__init__(
            f"{message}: alias and collection name conflict[database={database}][alias={alias}]"
        )


class AliasExists(InputError):
    code = 1602

    def __init__(self, message: str, database: str, alias: str) -> None:
        super().__init__(f"{message}: alias already exist[database={database}][alias={alias}]")


class FieldNotFound(InputError):
    code = 1700

    def __init__(self, message: str, field: str) -> None:
        super().__init__(f"{message}: field not found[field={field}]")


class InvalidFieldName(InputError):
    code = 1701

    def __init__(self, message: str, field: str) -> None:
        super().__init__(f"{message}: field name invalid[field={field}]")


class ImportFailed(InputError):
    """A bulk import that can't be: its files, its options, or that it is unknown."""

    code = 2100


class Unavailable(ElanusError):
    code = 2
    retriable = True


class NotReady(Unavailable):
    code = 1


class NotServed(Unavailable):
    """Refused by one that is not (or no longer) responsible, before anything was done: whatever
    was asked for may be asked again of whoever is."""


class CollectionNotFullyLoaded(Unavailable):
    code = 103

    def __init__(self, collection: str | int, reason: str) -> None:
        super().__init__(
            f"collection is still being loaded, {reason}: "
            f"collection not fully loaded[collection={collection}]"
        )


class ResourceInsufficient(Unavailable):
    code = 12


class TooManyRequests(Unavailable):
    code = 4


class DiskFull(Unavailable):
    """The data directory has no room: writes are refused, reads go on."""

    code = 9

    def __init__(self, where: str) -> None:
        super().__init__(
            f"no space left on the device of {where}; nothing was written, "
            f"free some space and send again: quota exceeded[reason=disk quota exceeded]"
        )


class MemoryLimitExceeded(ElanusError):
    code = 3


class RateLimited(ElanusError):
    code = 8
    retriable = True


class QuotaExceeded(ElanusError):
    """Refused until an administrator, or more memory or disk, allows it again."""

    code = 9

    def __init__(self, reason: str) -> None:
        super().__init__(f"quota exceeded[reason={reason}]")


class Unimplemented(ElanusError):
    code = 10


class DeadlineExceeded(ElanusError):
    code = 10001
    retriable = True


class InternalError(ElanusError):
    code = 5


class CorruptData(InternalError):
    code = 1001


class FencedWriter(InternalError):
    code = 507
