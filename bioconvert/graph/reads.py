"""Weights that a container reads around the layer that holds them.

``F.linear(x, self.qkv.weight)`` uses the layer's numbers and never its forward: to change that layer's class
changes nothing, silently. The source of each container's forward, and of the methods it calls, says where.
"""

from __future__ import annotations

import ast
import copy
import inspect
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeGuard
from weakref import WeakKeyDictionary

from torch import nn

from bioconvert.core.classes import qualified_name

Chain = tuple[str, ...]

_WEIGHTS = ("weight", "in_proj_weight")
"""What a layer's weight is called; the second, by ``nn.MultiheadAttention``."""
_BENIGN_ATTRIBUTES = frozenset(
    {"dtype", "device", "shape", "size", "ndim", "dim", "numel", "type", "layout", "grad", "requires_grad"}
    | {"is_cuda", "is_meta", "is_contiguous", "is_floating_point", "element_size"}
)
"""What may be asked of a weight without using its numbers."""
_BENIGN_CALLS = frozenset({"isinstance", "hasattr", "type", "id", "len", "getattr"})
_ONLY_LOOKING = frozenset({"torch.nn.modules.transformer.TransformerEncoder"})
"""Classes that collect the weights of their layers to ask for device and ``requires_grad``."""
_OWN_CODE = ("torch.nn.modules.module", "builtins")


class Called(Enum):
    """Whether a container calls a layer whose weight it also reads."""

    NEVER = "never"
    SOMETIMES = "sometimes"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Read:
    """A layer whose weight a container's forward reads.

    Args:
        chain: the attributes that lead to the layer; ``"*"`` stands for any index.
        called: whether the container calls the layer too.
        passed_on: whether each use that is made of the weight is to give it to ``linear`` or ``conv*d``.
    """

    chain: Chain
    called: Called
    passed_on: bool


_found: WeakKeyDictionary[type, tuple[Read, ...]] = WeakKeyDictionary()


@dataclass
class _Uses:
    """What one class's forward does with the attributes below ``self``."""

    weights: set[Chain] = field(default_factory=set)
    otherwise: set[Chain] = field(default_factory=set)
    always: set[Chain] = field(default_factory=set)
    mentioned: set[Chain] = field(default_factory=set)


def weights_read_around(cls: type) -> tuple[Read, ...]:
    """Give the layers below an instance of ``cls`` whose weight its forward reads."""
    if cls not in _found:
        _found[cls] = _analyse(cls)
    return _found[cls]


def _analyse(cls: type) -> tuple[Read, ...]:
    uses = _Uses()
    _collect(cls, "forward", certain=True, uses=uses, seen=set())
    return tuple(
        Read(chain, _called(chain, uses), chain not in uses.otherwise) for chain in sorted(uses.weights)
    )


def _called(chain: Chain, uses: _Uses) -> Called:
    if chain in uses.always:
        return Called.ALWAYS
    return Called.SOMETIMES if chain in uses.mentioned else Called.NEVER


def _collect(
    cls: type,
    method: str,
    *,
    below: int = 0,
    certain: bool,
    uses: _Uses,
    seen: set[tuple[type, str, bool]],
) -> None:
    """Add what a method does, and the methods of ``self`` and of ``super()`` that it calls."""
    position = next((i for i, each in enumerate(cls.__mro__) if i >= below and method in vars(each)), None)
    if position is None or (cls.__mro__[position], method, certain) in seen:
        return
    seen.add((cls.__mro__[position], method, certain))
    if qualified_name(cls.__mro__[position]) in _ONLY_LOOKING:
        return
    function = _own_function(vars(cls.__mro__[position])[method])
    body = _parsed(function) if function is not None else None
    if body is None:
        return
    receiver = _receiver(body)
    _spell_out(body, receiver)
    for node, sure in _walk(body, certain):
        _note(node, sure, uses, receiver, function, cls)
        if isinstance(node, ast.Attribute):
            owner = node.value
            if isinstance(owner, ast.Name) and owner.id == receiver:
                _collect(cls, node.attr, certain=sure, uses=uses, seen=seen)
            elif _is_super(owner):
                _collect(cls, node.attr, below=position + 1, certain=sure, uses=uses, seen=seen)


def _is_super(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def _own_function(member: object) -> Callable[..., object] | None:
    if isinstance(member, property):
        member = member.fget
    found = inspect.unwrap(member) if callable(member) else None
    if not inspect.isfunction(found) or found.__module__ in _OWN_CODE:
        return None
    return found


def _parsed(function: Callable[..., object]) -> ast.AST | None:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except (OSError, TypeError, SyntaxError, IndexError):
        # No source (a class typed into a console): proof of use on example inputs still finds such a layer.
        return None


class _Meanings(ast.NodeTransformer):
    """Puts what names stand for in their place."""

    def __init__(self, meanings: dict[str, ast.expr]):
        self.meanings = meanings

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Replace a name that is read."""
        if isinstance(node.ctx, ast.Load) and node.id in self.meanings:
            return copy.deepcopy(self.meanings[node.id])
        return node


def _spell_out(method: ast.AST, receiver: str) -> None:
    """Write ``self.f`` for ``f`` after ``f = self.f`` or ``for f in self.fs``."""
    meanings: dict[str, ast.expr] = {}
    stored = Counter(each.id for each in ast.walk(method) if _is_stored(each))
    visitor = _Meanings(meanings)
    for statement in getattr(method, "body", []):
        for node in list(ast.walk(statement)):
            name, value = _alias(node)
            if name is not None and value is not None and stored[name] == 1:
                value = visitor.visit(copy.deepcopy(value))
                if (chain := _chain(value, receiver)) is not None and "weight" not in chain:
                    meanings[name] = value
        visitor.visit(statement)


def _is_stored(node: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def _alias(node: ast.AST) -> tuple[str | None, ast.expr | None]:
    """Read ``f = value``, ``for f in values`` and ``for i, f in enumerate(values)``."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id, node.value
    if not isinstance(node, (ast.For, ast.comprehension)):
        return None, None
    target, values = node.target, node.iter
    if isinstance(values, ast.Call) and getattr(values.func, "id", "") == "enumerate" and values.args:
        target = target.elts[-1] if isinstance(target, ast.Tuple) else target
        values = values.args[0]
    if not isinstance(target, ast.Name):
        return None, None
    return target.id, ast.Subscript(values, ast.Name("*", ast.Load()), ast.Load())


_BRANCHES = (ast.If, ast.IfExp, ast.For, ast.While, ast.Try, ast.BoolOp, ast.Lambda, ast.FunctionDef)


def _walk(tree: ast.AST, certain: bool) -> Iterator[tuple[ast.AST, bool]]:
    """Give every node with its parent noted, and whether it is executed whenever the function is."""
    stack: list[tuple[ast.AST, bool]] = []
    for statement in getattr(tree, "body", []):
        stack.append((statement, certain))
        # What follows a return in a branch may never be reached.
        certain = certain and not any(isinstance(node, ast.Return) for node in ast.walk(statement))
    while stack:
        node, sure = stack.pop()
        yield node, sure
        for child in ast.iter_child_nodes(node):
            child.parent = node  # type: ignore[attr-defined]
            conditional = isinstance(node, _BRANCHES) and child is not getattr(node, "test", None)
            stack.append((child, sure and not conditional))


def _receiver(body: ast.AST) -> str:
    """Give the name by which a method calls its own object."""
    arguments = getattr(body, "args", None)
    names = [*arguments.posonlyargs, *arguments.args] if isinstance(arguments, ast.arguments) else []
    return names[0].arg if names else ""


def _note(
    node: ast.AST,
    sure: bool,
    uses: _Uses,
    receiver: str,
    function: Callable[..., object] | None,
    cls: type,
) -> None:
    chain = _chain(node, receiver)
    if chain is None:
        return
    parent = getattr(node, "parent", None)
    if chain[-1] in _WEIGHTS and len(chain) > 1:
        if not _benign(parent):
            uses.weights.add(chain[:-1])
            if not _is_passed_on(node, parent, function):
                uses.otherwise.add(chain[:-1])
    elif not isinstance(parent, (ast.Attribute, ast.Subscript)):
        uses.mentioned.add(chain)
        if sure and isinstance(parent, ast.Call) and parent.func is node:
            uses.always.add(chain)
        elif _reads_weight_of(node, parent, function, receiver, cls):
            uses.weights.add(chain)
            uses.otherwise.add(chain)


def _reads_weight_of(
    node: ast.AST,
    parent: ast.AST | None,
    function: Callable[..., object] | None,
    receiver: str,
    cls: type,
) -> bool:
    """Say whether a layer is given to a function, or to a method, that reads its weight."""
    call = getattr(parent, "parent", None) if isinstance(parent, ast.keyword) else parent
    if not isinstance(call, ast.Call) or call.func is node:
        return False
    method = _chain(call.func, receiver)
    if method is not None:
        called, skipped = _own_function(getattr(cls, method[-1], None)), 1
    else:
        called, skipped = _resolved(call.func, function), 0
    body = _parsed(called) if called is not None else None
    if called is None or body is None:
        return False
    name = _parameter_for(node, call, called, skipped)
    return any(
        isinstance(each, ast.Attribute) and each.attr == "weight" and getattr(each.value, "id", "") == name
        for each in ast.walk(body)
    )


def _benign(parent: ast.AST | None) -> bool:
    if isinstance(parent, ast.Attribute):
        return parent.attr in _BENIGN_ATTRIBUTES
    if isinstance(parent, ast.Call) and isinstance(parent.func, ast.Name):
        return parent.func.id in _BENIGN_CALLS
    return isinstance(parent, ast.Compare) and all(isinstance(op, (ast.Is, ast.IsNot)) for op in parent.ops)


_TAKERS = frozenset({"linear", "conv1d", "conv2d", "conv3d"})
"""Functions that take a layer's weight as their second argument, ``weight``."""


def _is_passed_on(node: ast.AST, parent: ast.AST | None, function: Callable[..., object] | None) -> bool:
    """Say whether a weight is given to one of these functions, at once or by another function's hand."""
    if isinstance(parent, ast.keyword):
        parent = getattr(parent, "parent", None)
    if not isinstance(parent, ast.Call):
        return False
    if _takes_weight(parent, node):
        return True
    called = _resolved(parent.func, function)
    body = _parsed(called) if called is not None else None
    if called is None or body is None:
        return False
    name = _parameter_for(node, parent, called)
    uses = [each for each in ast.walk(body) if isinstance(each, ast.Name) and each.id == name]
    calls = [each for each in ast.walk(body) if isinstance(each, ast.Call)]
    return bool(uses) and all(any(_takes_weight(call, use) for call in calls) for use in uses)


def _takes_weight(call: ast.Call, node: ast.AST) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name not in _TAKERS:
        return False
    by_keyword = any(keyword.arg == "weight" and keyword.value is node for keyword in call.keywords)
    return by_keyword or (len(call.args) > 1 and call.args[1] is node)


def _resolved(name: ast.AST, function: Callable[..., object] | None) -> Callable[..., object] | None:
    """Find the plain function that a name means in a function's source."""
    found = getattr(function, "__globals__", {}).get(name.id) if isinstance(name, ast.Name) else None
    return found if inspect.isfunction(found) else None


def _parameter_for(
    node: ast.AST, call: ast.Call, function: Callable[..., object], skipped: int = 0
) -> str | None:
    """Name the parameter of a function, after the first ones, that an argument of a call becomes."""
    for keyword in call.keywords:
        if keyword.value is node:
            return keyword.arg
    names = list(inspect.signature(function).parameters)[skipped:]
    position = next((i for i, argument in enumerate(call.args) if argument is node), len(names))
    # Beyond the names there is only what *args takes.
    return names[position] if position < len(names) else None


def _chain(node: ast.AST, receiver: str) -> Chain | None:
    """Read ``self.a.b[0].weight`` as ``("a", "b", "0", "weight")``."""
    names: list[str] = []
    while not isinstance(node, ast.Name):
        if isinstance(node, ast.Attribute):
            names.append(node.attr)
        elif isinstance(node, ast.Subscript):
            index = node.slice
            names.append(str(index.value) if isinstance(index, ast.Constant) else "*")
        else:
            return None
        node = node.value
    return tuple(reversed(names)) if node.id == receiver and names else None


def resolve(module: nn.Module, chain: Chain) -> list[nn.Module]:
    """Give the modules that a chain of names leads to, from ``module``."""
    found = [module]
    for name in chain:
        if name == "*":
            found = [child for parent in found for child in parent._modules.values() if child is not None]
        else:
            found = [child for parent in found if (child := parent._modules.get(name)) is not None]
    return found
