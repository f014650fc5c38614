"""Recording one forward: symbols for its arguments, and a node for everything that is done with tensors."""

from __future__ import annotations

import dataclasses
import operator
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.overrides import TorchFunctionMode, is_tensor_method_or_property

from bioconvert.graph import bytecode
from bioconvert.graph.watch import Watch

_KNOW_SYMBOLS = ("torch.", "transformers.utils.")
"""Modules that ask for types and know what to make of a symbol."""


class Symbol(fx.Proxy):
    """Stands for a value; what type it will have isn't known."""

    @property
    def __class__(self) -> Any:
        """The type, for torch; a forward that asks would get the wrong answer."""
        frame = sys._getframe(1)
        known = frame.f_globals.get("__name__", "").startswith(_KNOW_SYMBOLS)
        if known or not bytecode.asks_for_type(frame):
            return type(self)
        recorder: Any = self.tracer
        return recorder.type_of(self)

    @__class__.setter
    def __class__(self, cls: type) -> None:
        raise TypeError(f"a symbol can't become a {cls.__name__}")

    def __iter__(self) -> Iterator[fx.Proxy]:
        symbol: Any = self
        frame = sys._getframe(1)
        count = bytecode.targets(frame)
        if count is not None:
            return iter([operator.getitem(symbol, i) for i in range(count)])
        if bytecode.is_shape(frame):
            return iter([Starred(self.node, self.tracer)])
        found: Iterator[fx.Proxy] = self.tracer.iter(self)
        return found

    def __len__(self) -> int:
        # Python asks for the length of what it unpacks, and goes on without it after a TypeError.
        raise TypeError("the length of a value is known only when it runs")


class Starred(Symbol):
    """Stands for all the items of a symbol, within a shape."""


class GraphRecorder(fx.Tracer):
    """Writes the graph of one container's forward.

    Args:
        watch: knows the container's modules and tensors.
        types: the types of the arguments that are known; those that the forward asks for are in ``asked``.
    """

    def __init__(self, watch: Watch, types: Mapping[str, type]):
        super().__init__()
        self.graph = fx.Graph()
        self.watch = watch
        self.root = watch.container
        self.asked: dict[str, type] = {}
        self._types = types
        self._symbols: dict[str, fx.Proxy] = {}
        self._tensors: dict[str, torch.Tensor] = {}

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Give the symbol of a node."""
        return Symbol(node, self)

    def attribute(self, value: Any) -> Any:
        """Give the symbol of a parameter or buffer, and anything else as it is."""
        if not isinstance(value, torch.Tensor):
            return value
        name = self.watch.tensor_path(value)
        if name is None:
            return value
        if name not in self._symbols:
            symbol = self._symbols[name] = self.create_proxy("get_attr", name, (), {})
            self._tensors[symbol.node.name] = value
        return self._symbols[name]

    def type_of(self, symbol: Symbol) -> type:
        """Give the type that a symbol is sure to have, if there is one."""
        node = symbol.node
        if node.op == "placeholder":
            return self.asked.setdefault(name := str(node.target), self._types.get(name, torch.Tensor))
        tensor = self._tensors.get(node.name)
        if tensor is None:
            self.watch.refuse("it asks for the type of a value that is known only when it runs")
        return type(tensor)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **named: Any) -> Any:
        """Add a node, and give its symbol."""
        if kind == "call_method" and target in bytecode.SHAPED:
            args = self._with_shape(args)
        return super().create_proxy(kind, target, args, kwargs, *rest, **named)

    def create_node(
        self, kind: str, target: Any, args: Any, kwargs: Any, name: Any = None, type_expr: Any = None
    ) -> fx.Node:
        """Add a node; none is called ``self``, as BERT's attention calls a child."""
        name = "its_self" if name is None and target == "self" else name
        return super().create_node(kind, target, args, kwargs, name, type_expr)

    def _with_shape(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Put the items of a shape together where some of them are known only when the graph runs."""
        sizes = args[1] if len(args) == 2 and type(args[1]) is tuple else args[1:]
        if not any(type(size) is Starred for size in sizes):
            return args
        shape: Any = None
        for size in sizes:
            part: Any = (size,)
            if type(size) is Starred:
                part = super().create_proxy("call_function", tuple, (Symbol(size.node, self),), {})
            shape = (
                super().create_proxy("call_function", operator.add, (shape, part), {})
                if shape is not None
                else part
            )
        return (args[0], shape)

    def call(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Note that a module is called."""
        name = self.watch.module_path(module)
        if name is None:
            self.watch.refuse(f"it calls a {type(module).__name__} that isn't registered below it")
        if not name:
            self.watch.refuse("it calls itself")
        return self.create_proxy("call_module", name, args, kwargs)

    def create_arg(self, a: Any) -> Any:
        """Give what stands for a value among the arguments of a node."""
        if isinstance(a, fx.Proxy):
            if type(a) is Starred:
                self.watch.refuse("it unpacks a value whose length is known only when it runs")
            return a.node
        if isinstance(a, torch.Tensor):
            return self._tensor(a)
        if isinstance(a, nn.Module):
            name = self.watch.module_path(a)
            if not name:
                self.watch.refuse(f"it passes on a {type(a).__name__} that isn't registered below it")
            return self.create_node("get_attr", name, (), {})
        if isinstance(a, (dict, list)) and type(a) not in (dict, list):
            return self._container(a)
        return super().create_arg(a)

    def _tensor(self, tensor: torch.Tensor) -> fx.Node:
        name = self.watch.tensor_path(tensor)
        if name is None:
            self.watch.refuse("it computes with a tensor that no module below it holds")
        return self.create_node("get_attr", name, (), {})

    def _container(self, value: Any) -> fx.Node:
        """Make a container of a class of its own, such as a ModelOutput, where the graph runs."""
        cls = type(value)
        if dataclasses.is_dataclass(cls):
            names = [each.name for each in dataclasses.fields(cls)]
            fields = {name: self.create_arg(getattr(value, name)) for name in names}
            return self.create_node("call_function", cls, (), fields)
        if cls is OrderedDict:
            pairs = [(key, self.create_arg(item)) for key, item in value.items()]
            return self.create_node("call_function", cls, (pairs,), {})
        return self.watch.refuse(f"it makes a {cls.__name__}, which a graph can't hold")


class Recording(TorchFunctionMode):
    """Makes nodes of what is done with tensors that aren't symbols: made anew, or held by modules.

    Without it, ``torch.rand(4)`` would be drawn once, while tracing.
    """

    def __init__(self, recorder: GraphRecorder):
        super().__init__()
        self._recorder = recorder

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Note one call."""
        kwargs = dict(kwargs or {})
        if any(issubclass(each, fx.Proxy) for each in types):
            return func(*args, **kwargs)
        if getattr(func, "__name__", "") == "__get__":
            name = func.__self__.__name__  # type: ignore[attr-defined]
            return self._recorder.create_proxy("call_function", getattr, (args[0], name), {})
        if is_tensor_method_or_property(func):
            return self._recorder.create_proxy("call_method", func.__name__, args, kwargs)
        return self._recorder.create_proxy("call_function", func, args, kwargs)
