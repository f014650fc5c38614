"""What a forward is about to do with a symbol, read from its bytecode.

``isinstance(x, Tensor)`` asks for its type, ``a, b = x`` and ``(*x.shape[:-1], -1, 8)`` unpack it. The last
is how attention splits its heads: it is followed where the bytecode shows that the shape goes straight to a
method that takes one; anywhere else, its length would be wrong.
"""

from __future__ import annotations

import dis
from types import FrameType

SHAPED = frozenset({"view", "reshape", "expand"})
"""Methods that take a shape as one argument or as many."""
_CALLS = frozenset({"PRECALL", "CALL", "CALL_METHOD", "CALL_FUNCTION_EX"})
_LOADS_METHOD = frozenset({"LOAD_METHOD", "LOAD_ATTR"})
_STAR = frozenset({"LIST_EXTEND"})


def targets(frame: FrameType) -> int | None:
    """Give how many names ``a, b = x`` unpacks to, where a frame does that now."""
    code, now = _instructions(frame)
    return int(code[now].arg or 0) if code[now].opname == "UNPACK_SEQUENCE" else None


def is_shape(frame: FrameType) -> bool:
    """Say whether a frame now unpacks something with a star into a shape, and into nothing else."""
    code, now = _instructions(frame)
    if code[now].opname not in _STAR:
        return False
    first = next((i for i in range(now, -1, -1) if code[i].opname == "BUILD_LIST"), None)
    last = next((i for i in range(now, len(code)) if _makes_tuple(code[i])), None)
    if first is None or last is None:
        return False
    after = code[last + 1]
    if after.opname == "STORE_FAST":
        uses = [i for i, each in enumerate(code) if _names(each, after.argval) and each is not after]
        return all(code[i].opname == "LOAD_FAST" and _is_shape_argument(code, i - 1, i + 1) for i in uses)
    return _is_shape_argument(code, first - 1, last + 1)


def asks_for_type(frame: FrameType) -> bool:
    """Say whether a frame asks for an object's type now, and doesn't just pass it to a C function."""
    names = frame.f_code.co_names
    if "isinstance" not in names and "__class__" not in names:
        return False
    code, now = _instructions(frame)
    return code[now].argval == "__class__" or _callee(code, now) in ("isinstance", None)


def _callee(code: list[dis.Instruction], now: int) -> str | None:
    """Name what is called; ``None`` where that takes more than following the stack back in one line."""
    if code[now].opname not in (
        "PRECALL",
        "CALL",
        "CALL_FUNCTION",
    ):  # CPython 3.11 calls isinstance in PRECALL
        return ""
    height, arguments = 0, int(code[now].arg or 0)
    if code[now - 1].opname == "PRECALL":
        now -= 1
    for i in range(now - 1, -1, -1):
        if "JUMP" in code[i].opname:
            return None
        height += dis.stack_effect(code[i].opcode, code[i].arg, jump=False)
        if height > arguments:
            return str(code[i].argval)
    return None


def _instructions(frame: FrameType) -> tuple[list[dis.Instruction], int]:
    code = list(dis.get_instructions(frame.f_code))
    return code, next(i for i, each in enumerate(code) if each.offset == frame.f_lasti)


def _makes_tuple(instruction: dis.Instruction) -> bool:
    return instruction.opname == "LIST_TO_TUPLE" or "LIST_TO_TUPLE" in instruction.argrepr


def _names(instruction: dis.Instruction, variable: str) -> bool:
    if not any(kind in instruction.opname for kind in ("FAST", "DEREF", "CLOSURE")):
        return False
    named = instruction.argval
    return variable in named if isinstance(named, tuple) else bool(variable == named)


def _is_shape_argument(code: list[dis.Instruction], before: int, after: int) -> bool:
    """Say whether what stands between two instructions is the only argument of such a method."""
    loaded = code[before]
    return loaded.opname in _LOADS_METHOD and loaded.argval in SHAPED and code[after].opname in _CALLS
