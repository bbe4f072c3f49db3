"""Calls of libc functions that Python does not wrap, without the ctypes package: _ctypes alone costs 0.5 ms cold, not 4."""

from __future__ import annotations

from sys import byteorder, maxsize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_addresses: dict[str, int] = {}


def find(name: str) -> int:
    """Give the address of a libc function. Raises OSError where there is none, ImportError where this interpreter can't, or
    may not, call any: an audit hook of the program's (sys.addaudithook) may forbid that."""
    import _ctypes

    address = _addresses.get(name)
    if address is None:
        itself: Any = None  # this process, with all that it has loaded
        try:
            address = _ctypes.dlsym(_ctypes.dlopen(itself, 0), name)
            if not _addresses:
                _ctypes.call_cdeclfunction(_ctypes.dlsym(_ctypes.dlopen(itself, 0), "getpid"), ())
        except OSError:
            raise
        except Exception as error:
            # Here and not at each call, where it could be a signal handler's, which is none of our business.
            raise ImportError(f"something forbids ctypes: {type(error).__name__}: {error}") from error
        _addresses[name] = address
    return address


def call(name: str, *arguments: Any) -> int:
    """Call a libc function that takes C ints, pointers (make_pointer) or bytes, and returns a C int.

    Raises OSError where it returns -1.
    """
    import _ctypes

    result: int = _ctypes.call_cdeclfunction(find(name), arguments)
    if result == -1:
        # errno is not to be had without a function type of the ctypes package.
        raise OSError(f"{name}{arguments} failed")
    return result


def call_or_raise(name: str, *arguments: Any) -> int:
    """Call a libc function that returns a C long (an ssize_t). Raises OSError, with its errno, where it returns -1."""
    import _ctypes

    function = make_function(name, _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO, "l")
    result: int = function(*arguments)
    if result == -1:
        from os import strerror

        number = _ctypes.get_errno()
        raise OSError(number, strerror(number), name)
    return result


def get_address(buffer: object) -> int:
    """Give where the memory of a contiguous buffer begins. It stays there for as long as the buffer is held.

    Raises TypeError for what is no buffer, BufferError where it is not contiguous.
    """
    import _ctypes

    flags = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_PYTHONAPI  # holds the GIL, and passes exceptions on
    view = bytes(PY_BUFFER)  # ours alone: the interpreter shares only empty ones and single bytes
    make_function("PyObject_GetBuffer", flags, "i")(make_simple("O")(buffer), view, 0)
    address = int.from_bytes(view[:WORD], byteorder)
    make_function("PyBuffer_Release", flags, "i")(view)
    return address


WORD = maxsize.bit_length() // 8 + 1
PY_BUFFER = 128
"""Bytes for a Py_buffer, which takes 80 (Include/pybuffer.h, stable since 3.11); it begins with the address."""

_functions: dict[str, Any] = {}


def make_function(name: str, flags: int, result: str) -> Any:
    """Give a function of this process by its name: how it is called, and the type that it returns. Made once."""
    import _ctypes

    function = _functions.get(name)
    if function is None:
        members = {"_flags_": flags, "_restype_": make_simple(result)}
        function = _functions[name] = type("Function", (_ctypes.CFuncPtr,), members)(find(name))
    return function


def prepare(name: str, *arguments: Any) -> Callable[[], int]:
    """Give a call that is ready to be made: it returns what the libc function returns, -1 included."""
    import _ctypes

    function, address = _ctypes.call_cdeclfunction, find(name)
    return lambda: function(address, arguments)


def make_pointer(address: int) -> Any:
    """Give what `call` passes as a pointer: a plain int would be cut to 32 bits."""
    return make_simple("P")(address)


def make_simple(letter: str) -> Any:
    """Give a C type by its letter: "P" a pointer, "O" a Python object, "i" an int, "l" a long. Made once."""
    made = _simple.get(letter)
    if made is None:
        import _ctypes

        made = _simple[letter] = type("Simple", (_ctypes._SimpleCData,), {"_type_": letter})
    return made


_simple: dict[str, Any] = {}
