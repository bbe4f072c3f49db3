from __future__ import annotations

import _socket
import errno
import os
import resource
import subprocess
import threading
import time
from _socket import AF_UNIX, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM, socketpair
from collections.abc import Iterator

import pytest

from tests.support import run_forked
from warmfork._machine import fds, memfds, sockets, syscalls

Pair = tuple[sockets.socket, sockets.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, other = sockets.make_pair()
    yield one, other
    one.close()
    other.close()


@pytest.fixture
def null() -> Iterator[int]:
    fd = os.open(os.devnull, os.O_RDWR)
    yield fd
    os.close(fd)


def test_messages_keep_their_bounds(pair):
    one, other = pair
    for data in (b"first", b"second", b"x" * 60_000):
        sockets.send(one, data)
    assert [sockets.receive(other).data for _ in range(3)] == [b"first", b"second", b"x" * 60_000]


def test_both_ends_are_closed_on_exec(pair):
    assert [os.get_inheritable(end.fileno()) for end in pair] == [False, False]
    assert [end.type & SOCK_SEQPACKET for end in pair] == [SOCK_SEQPACKET] * 2


def test_where_nothing_was_said_nobody_waits(pair):
    with pytest.raises(BlockingIOError):
        sockets.receive(pair[1])


def test_the_end_of_a_socket_reads_as_no_data(pair):
    one, other = pair
    sockets.send(one, b"last")
    one.close()
    assert [sockets.receive(other).data for _ in range(2)] == [b"last", b""]


def test_sending_to_nobody_is_an_error_and_no_signal(pair):
    pair[1].close()
    with pytest.raises(BrokenPipeError):
        sockets.send(pair[0], b"x")


@pytest.mark.parametrize("count", [1, 8, sockets.MOST_FDS])
def test_fds_arrive_in_order_open_on_the_same_files_and_not_inheritable(pair, count):
    one, other = pair
    memories = [memfds.make_memory(f"warmfork-test-{index}", b"%d" % index) for index in range(count)]
    sockets.send(one, b"look", memories)
    got = sockets.receive(other)
    assert (got.data, got.cut, len(got.fds)) == (b"look", False, count)
    assert [memfds.read_all(fd) for fd in got.fds] == [b"%d" % index for index in range(count)]
    assert not any(os.get_inheritable(fd) for fd in got.fds)
    fds.close_all(memories)
    fds.close_all(got.fds)


def test_the_kernel_takes_253_fds_in_one_message_and_no_more(pair, null):
    """Row 39: multiprocessing.reduction believes 256."""
    with pytest.raises(OSError):
        sockets.send(pair[0], b"look", [null] * 254)
    with pytest.raises(BlockingIOError):
        sockets.receive(pair[1])


def test_fds_for_which_the_reader_has_no_room_are_told_of_and_those_that_came_are_ours(pair, null):
    """MSG_CTRUNC: what did arrive is in the list, so that it is closed (the check after each test looks)."""
    one, other = pair
    sockets.send(one, b"look", [null] * sockets.MOST_FDS)
    got = sockets.unpack_received(other.recvmsg(10, sockets.CMSG_SPACE(32), sockets.RECEIVE))
    assert got.cut
    assert got.data == b"look"
    assert 0 < len(got.fds) < sockets.MOST_FDS
    assert all(os.fstat(fd).st_rdev == os.fstat(null).st_rdev for fd in got.fds)
    fds.close_all(got.fds)


def test_a_process_that_is_out_of_fds_learns_that_some_did_not_arrive(null):
    """M10: the message comes, with fewer fds."""

    def receive_with_room_for_two() -> tuple[bytes, bool, int]:
        one, other = sockets.make_pair()
        highest = max(fds.list_fds())
        free = sum(not fds.is_open(number) for number in range(highest))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + max(0, 2 - free), 4096))
        fillers = [os.open(os.devnull, os.O_RDWR) for _ in range(max(0, free - 2))]
        sockets.send(one, b"look", [null] * 5)
        got = sockets.receive(other)
        return got.data, got.cut, len(got.fds) + 0 * len(fillers)

    assert run_forked(receive_with_room_for_two) == (b"look", True, 2)


def test_data_for_which_the_reader_has_no_room_is_told_of(pair):
    sockets.send(pair[0], b"x" * 100)
    got = sockets.receive(pair[1], size=10)
    assert (got.data, got.cut) == (b"x" * 10, True)


@pytest.mark.parametrize("passes", [False, True])
def test_the_kernel_vouches_for_the_pid_of_the_sender(pair, null, passes):
    one, other = pair
    sockets.ask_for_credentials(other)

    def send() -> int:
        sockets.send(one, b"me", [null] if passes else [])
        return os.getpid()

    pid = run_forked(send)
    got = sockets.receive(other)
    assert (got.pid, len(got.fds)) == (pid, int(passes))
    fds.close_all(got.fds)


def test_without_credentials_there_is_no_pid(pair):
    sockets.send(pair[0], b"me")
    assert sockets.receive(pair[1]).pid == 0


def fill(socket: sockets.socket) -> int:
    """Send until there is no room."""
    for count in range(10_000):
        try:
            sockets.send(socket, b"x" * 1000)
        except BlockingIOError:
            return count
    raise AssertionError("there is always room")


def test_a_receiver_that_reads_nothing_costs_the_sender_its_time_limit_and_no_more(pair):
    """M16: nothing blocks on a queue that others share."""
    assert fill(pair[0]) > 10
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"has read nothing for 0.2 s"):
        sockets.send_within(pair[0], b"x", timeout=0.2)
    assert 0.2 <= time.monotonic() - began < 5


def test_a_sender_goes_on_when_the_receiver_has_read(pair):
    one, other = pair
    count = fill(one)
    told = threading.Event()

    def read() -> None:
        told.wait(10)
        while fds.wait_readable(other.fileno(), 10) and len(got := sockets.receive(other).data) > 1:
            sizes.append(len(got))

    sizes: list[int] = []
    reader = threading.Thread(target=read)
    reader.start()
    told.set()
    sockets.send_within(one, b"!", timeout=10)
    reader.join()
    assert sizes == [1000] * count


def test_a_sender_waits_again_when_somebody_else_took_the_room(pair, monkeypatch):
    one, other = pair
    fill(one)
    refusals = iter([True, True, False])
    real = sockets.send

    def send(to: sockets.socket, data: bytes, passed: object = ()) -> None:
        if next(refusals):
            raise BlockingIOError
        real(to, data, passed)

    while fds.wait_readable(other.fileno(), 0):
        sockets.receive(other)
    monkeypatch.setattr(sockets, "send", send)
    sockets.send_within(one, b"!", timeout=10)
    assert sockets.receive(other).data == b"!"


def test_waiting_ends_with_something_to_read_the_end_of_the_socket_or_the_time_limit(pair):
    one, other = pair
    assert not fds.wait_readable(other.fileno(), 0)
    assert not fds.wait_readable(other.fileno(), -1.0)
    assert not fds.list_readable((one.fileno(), other.fileno()), 0.01)
    sockets.send(one, b"x")
    assert fds.wait_readable(other.fileno(), None)
    assert fds.list_readable((one.fileno(), other.fileno()), None)
    sockets.receive(other)
    one.close()
    assert fds.wait_readable(other.fileno(), None)


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_memory_gives_back_what_was_written_whatever_its_position(size):
    content = os.urandom(size)
    fd = memfds.make_memory("warmfork-test", content)
    assert not os.get_inheritable(fd)
    assert os.lseek(fd, 0, os.SEEK_CUR) == 0
    os.lseek(fd, size // 2, os.SEEK_SET)
    assert memfds.read_all(fd) == content
    assert memfds.read_all(fd, size // 3) == content[: size // 3]
    assert memfds.read_all(fd, size + 10) == content, "a memory that is shorter than was said"
    os.close(fd)


def refuse(*_: object) -> list[str]:
    raise FileNotFoundError(2, "No such file or directory", "/proc/self/fd")


@pytest.mark.parametrize("keep", [(), (3,), (5, 6, 9), (0, 1, 2, 7), (300, 301), (3, 4, 5, 6, 7, 8, 9, 10)])
@pytest.mark.parametrize("how", ["by one call", "by what /proc lists", "by number"])
def test_closing_all_but_some_closes_exactly_the_others(monkeypatch, keep, how):
    if how != "by one call":
        monkeypatch.setattr(syscalls, "close_range", lambda first, last: False)

    def close() -> list[int]:
        if how == "by number":
            monkeypatch.setattr(os, "listdir", refuse)
        null = os.open(os.devnull, os.O_RDWR)
        for number in (*range(3, 12), 100, 300, 301, 302, 1000):
            os.dup2(null, number)
        fds.close_all_but(keep)
        return [number for number in range(1100) if fds.is_open(number)]

    assert run_forked(close) == sorted({0, 1, 2, *keep})


def test_the_fds_that_are_listed_are_those_that_are_open(null):
    listed = fds.list_fds()
    assert listed == [number for number in range(max(listed) + 10) if fds.is_open(number)]
    assert null in listed


def test_an_fd_is_known_again_as_long_as_its_number_means_the_same_file(null):
    fd = memfds.make_memory("warmfork-test")
    identity = fds.identify(fd)
    copy = os.dup(fd)
    assert fds.is_still(fd, identity) and fds.is_still(copy, identity)
    os.dup2(null, copy)
    assert not fds.is_still(copy, identity)
    os.close(copy)
    assert not fds.is_still(copy, identity)
    os.close(fd)


def test_a_socket_that_was_passed_on_is_a_socket_again(pair):
    one, other = pair
    adopted = sockets.adopt_socket(os.dup(one.fileno()))
    sockets.send(adopted, b"x")
    adopted.close()
    assert sockets.receive(other).data == b"x"
    with pytest.raises(OSError):
        sockets.adopt_socket(1_000_000)


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.ENOBUFS, errno.ETOOMANYREFS])
def test_a_send_waits_until_the_kernel_has_what_it_takes_again(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, number: int
):
    """M10: fds on their way are counted per user, and others of that user may have sent them."""
    send, left = sockets.send, [3]

    def send_or_fail(*given: object) -> None:
        if left[0]:
            left[0] -= 1
            raise OSError(number, os.strerror(number))
        send(*given)

    monkeypatch.setattr(sockets, "send", send_or_fail)
    sockets.send_within(pair[0], b"x")
    assert sockets.receive(pair[1]).data == b"x"
    left[0] = 1_000_000
    with pytest.raises(OSError) as caught:
        sockets.send_within(pair[0], b"x", timeout=0.02)
    assert caught.value.errno == number


@pytest.mark.parametrize("kind", ["file", "folder", "pipe", "stream", "datagram"])
def test_what_somebody_sent_and_is_no_socket_of_ours_is_refused_and_closed(kind: str):
    """Any process of a tree may send any fd through its door: it costs nobody but the sender."""
    if kind in ("stream", "datagram"):
        one, other = socketpair(AF_UNIX, SOCK_STREAM if kind == "stream" else SOCK_DGRAM)
        fd = one.detach()
        other.close()
    elif kind == "pipe":
        fd, writer = os.pipe()
        os.close(writer)
    else:
        fd = os.open("/", os.O_PATH) if kind == "folder" else os.open(os.devnull, os.O_RDWR)
    with pytest.raises(sockets.NoSocket) as caught:
        sockets.adopt_socket(fd)
    assert caught.value.errno
    assert not fds.is_open(fd)


@pytest.mark.parametrize("timeout", [None, 0.0, 0.001, 100.0])
def test_a_default_time_out_of_the_program_is_none_of_our_sockets(timeout):
    """socket.setdefaulttimeout() also makes a socket non-blocking, for all that share it."""
    _socket.setdefaulttimeout(timeout)
    try:
        one, other = sockets.make_pair()
        third = sockets.adopt_socket(os.dup(other.fileno()))
    finally:
        _socket.setdefaulttimeout(None)
    for end in (one, other, third):
        assert end.gettimeout() is None and os.get_blocking(end.fileno())
        end.close()


def test_a_receiver_that_waits_does_so_although_somebody_made_the_socket_non_blocking(pair):
    one, other = pair
    os.set_blocking(other.fileno(), False)
    sender = threading.Timer(0.05, sockets.send, (one, b"late"))
    sender.start()
    assert sockets.receive(other, flags=sockets.RECEIVE_BLOCKING).data == b"late"
    sender.join()


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.ENXIO])
def test_where_there_is_no_null_device_an_empty_memory_file_stands_in(monkeypatch, number):
    def open_nothing(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", open_nothing)
    fd = fds.open_null()
    monkeypatch.undo()
    assert os.read(fd, 10) == b"" and os.write(fd, b"x") == 1 and not os.get_inheritable(fd)
    os.close(fd)


def test_a_program_that_is_out_of_files_is_not_given_a_memory_file_for_the_null_device(monkeypatch):
    def open_nothing(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "open", open_nothing)
    with pytest.raises(OSError, match="Too many open files"):
        fds.open_null()


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL) as process:
        yield process
        process.kill()


def test_the_files_of_another_process_are_listed(other):
    assert fds.list_files(other.pid)[0] == "/dev/null"


def test_a_process_that_is_gone_shows_no_files(other):
    other.kill()
    other.wait()
    assert fds.list_files(other.pid) is None


def test_a_zombie_shows_no_files(other):
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert not fds.list_files(other.pid)
