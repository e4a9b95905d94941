"""The operator table: how tightly each operator of the filter language binds.

The levels are Milvus's and differ from Python's and SQL's: ``like`` is the tightest, ``not`` binds
above arithmetic and every comparison, ``in`` above the comparisons, and the bit operators below
``==``. A larger number binds tighter; operators of one level associate to the left.
"""

BINDING_OR = 1
BINDING_AND = 2
BINDING_BIT_OR = 3
BINDING_BIT_XOR = 4
BINDING_BIT_AND = 5
BINDING_EQUAL = 6
BINDING_ORDER = 7
BINDING_RANGE = 8
BINDING_IN = 9
BINDING_SHIFT = 10
BINDING_ADD = 11
BINDING_MULTIPLY = 12
BINDING_UNARY = 13
BINDING_POWER = 14
BINDING_LIKE = 15
BINDING_EXISTS = 16

INFIX = {
    "or": BINDING_OR,
    "and": BINDING_AND,
    "|": BINDING_BIT_OR,
    "^": BINDING_BIT_XOR,
    "&": BINDING_BIT_AND,
    "==": BINDING_EQUAL,
    "!=": BINDING_EQUAL,
    "<": BINDING_ORDER,
    "<=": BINDING_ORDER,
    ">": BINDING_ORDER,
    ">=": BINDING_ORDER,
    "in": BINDING_IN,
    "<<": BINDING_SHIFT,
    ">>": BINDING_SHIFT,
    "+": BINDING_ADD,
    "-": BINDING_ADD,
    "*": BINDING_MULTIPLY,
    "/": BINDING_MULTIPLY,
    "%": BINDING_MULTIPLY,
    "**": BINDING_POWER,
}

PREFIX = {
    "not": BINDING_UNARY,
    "-": BINDING_UNARY,
    "+": BINDING_UNARY,
    "~": BINDING_UNARY,
    "exists": BINDING_EXISTS,
}

ORDERINGS = frozenset(("<", "<=", ">", ">="))
COMPARISONS = ORDERINGS | {"==", "!="}

# ``a op b`` is ``b FLIPPED[op] a``; NEGATED holds where both sides are known and not NaN.
FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
NEGATED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}

ARITHMETIC_NAMES = {
    "+": "add",
    "-": "subtract",
    "*": "multiply",
    "/": "divide",
    "%": "modulo",
}
BIT_NAMES = {"&": "BitAnd", "|": "BitOr", "^": "BitXor", "<<": "shift", ">>": "shift"}

CONTAINS_NAMES = {
    "json_contains": "any",
    "array_contains": "any",
    "json_contains_any": "any of",
    "array_contains_any": "any of",
    "json_contains_all": "all of",
    "array_contains_all": "all of",
}
LENGTH_NAME = "array_length"
SAMPLE_NAME = "random_sample"
MINIMUM_SHOULD_MATCH = "minimum_should_match"
MAX_EDIT_DISTANCE = "max_edit_distance"
THRESHOLD = "threshold"
OPTIONS = frozenset((MINIMUM_SHOULD_MATCH, MAX_EDIT_DISTANCE, THRESHOLD))
"""Arguments that are given by their name."""
SPATIAL_NAMES = {
    "st_equals": "STEuqals",
    "st_touches": "STTouches",
    "st_overlaps": "STOverlaps",
    "st_crosses": "STCrosses",
    "st_contains": "STContains",
    "st_intersects": "STIntersects",
    "st_within": "STWithin",
    "st_dwithin": "ST_DWITHIN",
    "st_isvalid": "STIsValid",
}
"""As errors name them; the first is misspelt by Milvus."""

MATCH_QUANTIFIERS = {
    "match_any": "any",
    "match_all": "all",
    "match_least": "least",
    "match_most": "most",
    "match_exact": "exact",
}
ELEMENT_FILTER = "element_filter"
ELEMENT_FUNCTIONS = frozenset((*MATCH_QUANTIFIERS, ELEMENT_FILTER))
"""Those with a predicate on the elements of an array of structs."""
