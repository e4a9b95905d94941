"""The filter language: text to a Plan (``compile_filter``), a Plan to rows (``evaluate``).

Stages: ``lexer`` → ``parser`` (over the table in ``operators``) → ``bind`` (with ``predicates``,
``functions``, ``elements`` and ``constants``) → ``rewrite`` → ``evaluate`` (with
``evaluate_scalar``, ``evaluate_array`` and ``evaluate_json``). Pure computation on text and Arrow
columns.
"""

from elanus.engine.filter.compile import compile_filter, key_values
from elanus.engine.filter.evaluate import evaluate
from elanus.engine.filter.plan import Plan

__all__ = ["Plan", "compile_filter", "evaluate", "key_values"]
