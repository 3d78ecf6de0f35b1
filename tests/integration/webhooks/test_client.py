"""The client against receivers that mean harm: bounded in time and memory, and never led astray."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from storage.records.webhook_guard import Guard
from tests.support.ports import free_port
from tests.support.receiver import receiving
from workers.webhooks.client import Client
from workers.webhooks.connection import Limits
from workers.webhooks.message import request_of
from workers.webhooks.resolver import Resolver
from workers.webhooks.verdict import Answer, Undelivered

LIMITS = Limits(total_s=2.0, connect_s=1.0, rest_s=0.3)
OPENED = Guard(("127.0.0.1:*", "localhost:*", "[::1]:*"))


def run(work: Callable[[Client], Awaitable[Any]], **options: Any) -> Any:
    """``work`` with a client in a loop of its own."""

    async def inside() -> Any:
        guard = options.pop("guard", OPENED)
        resolver = options.pop("resolver", None) or Resolver(guard)
        client = Client(resolver, options.pop("limits", LIMITS), **options)
        try:
            return await work(client)
        finally:
            await client.close()

    return asyncio.run(inside())


def post(client: Client, url: str, guard: Guard = OPENED) -> Awaitable[Answer]:
    target = guard.target(url)
    return client.post(target, request_of(target, {}, b"{}"))


class Saying(asyncio.Protocol):
    """Says these bytes, one after the other, whatever it is asked."""

    def __init__(self, replies: tuple[bytes, ...], close: bool, made: list[Any]) -> None:
        self._replies, self._close, self._made = replies, close, made

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._made.append(transport)

    def data_received(self, data: bytes) -> None:
        self._say(list(self._replies))

    def _say(self, left: list[bytes]) -> None:
        if self._transport.is_closing():
            return
        if left:
            self._transport.write(left[0])
            asyncio.get_running_loop().call_later(0.01, self._say, left[1:])
        elif self._close:
            self._transport.close()


@contextlib.asynccontextmanager
async def saying(*replies: bytes, close: bool = True) -> AsyncIterator[tuple[str, list[Any]]]:
    """A server of such connections: its URL, and the connections that were made to it."""
    made: list[Any] = []
    port = free_port()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Saying(replies, close, made), "127.0.0.1", port)
    try:
        yield f"http://127.0.0.1:{port}/", made
    finally:
        server.close()
        for transport in made:
            transport.abort()
        await asyncio.sleep(0.02)


class TestReplies:
    @pytest.mark.parametrize(
        ("replies", "answer"),
        [
            ([b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"], Answer(200)),
            ([b"HTTP/1.1 200 OK\r\n\r\nuntil it closes"], Answer(200)),
            ([b"HTTP/1.0 200 OK\r\n\r\n"], Answer(200)),
            ([b"HTTP/1.1 204 No Content\r\n\r\n"], Answer(204)),
            ([b"HTTP/1.1 2", b"00 OK\r\nconte", b"nt-length: 0\r", b"\n\r\n"], Answer(200)),
            (
                [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"],
                Answer(200),
            ),
            (
                [
                    b"HTTP/1.1 100 Continue\r\n\r\n",
                    b"HTTP/1.1 201 Made\r\ncontent-length: 0\r\n\r\n",
                ],
                Answer(201),
            ),
            (
                [
                    b"HTTP/1.1 103 Early Hints\r\nretry-after: 9\r\n\r\n"
                    b"HTTP/1.1 503 No\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n"
                ],
                Answer(503, "7"),
            ),
            (
                [b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nwhat"],
                Answer(101),
            ),
            ([b"HTTP/1.1 500 No\r\ncontent-length: 10\r\n\r\nshort"], Answer(500)),
        ],
    )
    def test_the_status_counts_however_it_is_framed(self, replies: list[bytes], answer: Answer):
        async def work(client: Client) -> Answer:
            async with saying(*replies) as (url, _):
                return await post(client, url)

        assert run(work) == answer

    @pytest.mark.parametrize(
        ("replies", "why"),
        [
            ([b""], "before an answer"),
            ([b"HTTP/1.1 200"], "before an answer"),
            ([b"SSH-2.0-OpenSSH_9\r\n"], "not HTTP"),
            ([b"\x15\x03\x01\x00\x02\x02"], "not HTTP"),
            ([b"HTTP/1.1 abc OK\r\n\r\n"], "not HTTP"),
            ([b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"], "not HTTP"),
            ([b"HTTP/1.1 200 OK\r\nx: " + b"a" * 20_000], "too long"),
            ([b"HTTP/1.1 200 OK\r\nx: " + b"a" * 20_000 + b"\r\n\r\n"], "too long"),
            ([b"HTTP/1.1 200 OK\r\n" + b"x: a\r\n" * 5_000 + b"\r\n"], "too long"),
            ([b"HTTP/1.1 103 Early Hints\r\nx: aaaaaaaaaaaa\r\n\r\n" * 1_000], "too long"),
        ],
    )
    def test_what_is_no_answer_is_said_to_be_none(self, replies: list[bytes], why: str):
        async def work(client: Client) -> Answer:
            async with saying(*replies) as (url, _):
                return await post(client, url)

        with pytest.raises(Undelivered, match=why):
            run(work)

    @pytest.mark.parametrize("path", ["/endless", "/drip", "/hang", "/big"])
    def test_none_of_them_takes_longer_than_it_may(self, path: str):
        async def work(client: Client) -> object:
            began_s = time.monotonic()
            try:
                found: object = await post(client, receiver.url(path))
            except Undelivered as error:
                found = str(error)
            assert time.monotonic() - began_s < 2 * LIMITS.total_s
            return found

        with receiving() as receiver:
            found = run(work)
        assert (
            found
            == {
                "/endless": Answer(200),
                "/drip": "no answer within 2 s",
                "/hang": "no answer within 2 s",
                "/big": "the head of its answer is too long",
            }[path]
        )

    def test_a_body_that_drips_is_not_waited_for(self):
        async def work(client: Client) -> tuple[Answer, float]:
            head = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"
            async with saying(head, *([b"a"] * 300)) as (url, _):
                began_s = time.monotonic()
                return await post(client, url), time.monotonic() - began_s

        answer, took_s = run(work)
        assert answer == Answer(200) and took_s < 1.5


class TestConnections:
    def test_one_is_used_again(self):
        async def work(client: Client) -> None:
            for _ in range(20):
                assert await post(client, receiver.url("/ok")) == Answer(200)

        with receiving() as receiver:
            run(work)
            assert (receiver.connections, len(receiver.requests)) == (1, 20)

    def test_one_that_the_server_closed_meanwhile_costs_no_attempt(self):
        async def work(client: Client) -> int:
            reply = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
            async with saying(reply) as (url, connections):
                for _ in range(3):  # it closes after each answer, without having said so
                    assert await post(client, url) == Answer(200)
                    await asyncio.sleep(0.1)
            return len(connections)

        assert run(work) == 3

    def test_one_that_ends_when_it_is_used_again_costs_no_attempt_either(self):
        async def work(client: Client) -> None:
            for _ in range(3):
                assert await post(client, receiver.url("/once")) == Answer(200)

        with receiving() as receiver:
            run(work)
            assert receiver.connections == 3

    def test_one_that_says_more_than_it_was_asked_is_not_used_again(self):
        async def work(client: Client) -> int:
            twice = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n" * 2
            async with saying(twice, close=False) as (url, connections):
                for _ in range(3):
                    assert (await post(client, url)).status == 200
                    await asyncio.sleep(0.05)
            return len(connections)

        assert run(work) == 3

    def test_one_that_was_idle_for_long_is_closed(self):
        async def work(client: Client) -> None:
            await post(client, receiver.url("/ok"))
            await asyncio.sleep(0.3)
            client.sweep()
            await post(client, receiver.url("/ok"))

        with receiving() as receiver:
            run(work, limits=Limits(idle_s=0.1))
            assert receiver.connections == 2

    def test_a_reset_on_a_new_one_is_an_answer_that_did_not_come(self):
        async def work(client: Client) -> None:
            await post(client, receiver.url("/reset"))

        with receiving() as receiver:
            with pytest.raises(Undelivered, match="before an answer"):
                run(work)
            assert len(receiver.requests) == 1  # and it is not tried again by itself

    def test_nobody_listens(self):
        async def work(client: Client) -> None:
            await post(client, f"http://127.0.0.1:{free_port()}/")

        with pytest.raises(Undelivered, match="cannot connect: connection refused"):
            run(work)


class TestResolving:
    """A name that answers differently each time."""

    @staticmethod
    def resolver(guard: Guard, *answers: list[str], kept_s: float = 0.0) -> tuple[Any, list[str]]:
        asked: list[str] = []

        def look_up(host: str, port: int) -> list[str]:
            asked.append(host)
            return answers[min(len(asked), len(answers)) - 1]

        return lambda: Resolver(guard, look_up, kept_s), asked

    def test_a_name_that_moves_to_a_bad_address_gets_no_connection_there(self):
        with receiving() as receiver:
            guard = Guard((f"127.0.0.1:{receiver.port}",))
            made, asked = self.resolver(guard, ["127.0.0.1"], ["127.0.0.2"])
            reached: list[Any] = []

            async def work(client: Client) -> None:
                loop = asyncio.get_running_loop()
                bad = await loop.create_server(
                    lambda: Saying((b"",), True, reached), "127.0.0.2", receiver.port
                )
                url = f"http://rebinding.example:{receiver.port}/close"
                async with bad:
                    assert await post(client, url, guard) == Answer(200)
                    with pytest.raises(Undelivered, match=r"not sent: rebinding\.example"):
                        await post(client, url, guard)

            async def inside() -> None:
                client = Client(made(), LIMITS)
                try:
                    await work(client)
                finally:
                    await client.close()

            asyncio.run(inside())
            assert asked == ["rebinding.example"] * 2
            assert (reached, len(receiver.requests)) == ([], 1)

    @pytest.mark.parametrize("bad", ["127.0.0.2", "10.0.0.1", "169.254.169.254", "::ffff:10.0.0.1"])
    @pytest.mark.parametrize("first", [True, False])
    def test_one_bad_address_among_good_ones_refuses_the_name(self, bad: str, first: bool):
        with receiving() as receiver:
            guard = Guard((f"127.0.0.1:{receiver.port}",))
            both = [bad, "127.0.0.1"] if first else ["127.0.0.1", bad]
            made, _ = self.resolver(guard, both)

            async def inside() -> None:
                client = Client(made(), LIMITS)
                await post(client, f"http://both.example:{receiver.port}/ok", guard)

            with pytest.raises(Undelivered, match="not sent"):
                asyncio.run(inside())
            assert receiver.connections == 0

    def test_many_at_once_ask_once_and_the_answer_is_kept_a_little(self):
        with receiving() as receiver:
            guard = Guard((f"127.0.0.1:{receiver.port}",))
            made, asked = self.resolver(guard, ["127.0.0.1"], kept_s=0.3)

            async def inside() -> None:
                client = Client(made(), LIMITS)
                url = f"http://many.example:{receiver.port}/close"
                await asyncio.gather(*(post(client, url, guard) for _ in range(20)))
                assert len(asked) == 1
                await asyncio.sleep(0.4)
                await post(client, url, guard)
                await client.close()

            asyncio.run(inside())
            assert len(asked) == 2

    def test_a_look_up_that_hangs_costs_its_own_delivery_alone(self):
        def look_up(host: str, port: int) -> list[str]:
            if host == "slow.example":
                time.sleep(3)
            return ["127.0.0.1"]

        async def inside() -> None:
            client = Client(Resolver(guard, look_up), Limits(total_s=1.0))
            slow = asyncio.create_task(post(client, url("slow"), guard))
            await asyncio.sleep(0)
            began_s = time.monotonic()
            assert await post(client, url("quick"), guard) == Answer(200)
            assert time.monotonic() - began_s < 1
            with pytest.raises(Undelivered, match="no answer within 1 s"):
                await slow
            await client.close()

        with receiving() as receiver:
            guard = Guard((f"127.0.0.1:{receiver.port}",))

            def url(name: str) -> str:
                return f"http://{name}.example:{receiver.port}/ok"

            asyncio.run(inside())

    @pytest.mark.parametrize("found", [[], ["nonsense"], None])
    def test_a_name_without_addresses_does_not_resolve(self, found: list[str] | None):
        def look_up(host: str, port: int) -> list[str]:
            if found is None:
                raise UnicodeError("label too long")
            return found

        async def inside() -> None:
            client = Client(Resolver(OPENED, look_up), LIMITS)
            await post(client, "http://nowhere.example/")

        with pytest.raises(Undelivered, match=r"nowhere.example does not resolve"):
            asyncio.run(inside())

    def test_the_next_address_is_tried_when_the_first_does_not_answer(self):
        with receiving() as receiver:
            guard = Guard((f"127.0.0.0/8:{receiver.port}",))
            made, _ = self.resolver(guard, ["127.0.0.3", "127.0.0.1"])

            async def inside() -> None:
                client = Client(made(), LIMITS)
                url = f"http://two.example:{receiver.port}/ok"
                assert await post(client, url, guard) == Answer(200)
                await client.close()

            asyncio.run(inside())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for ``localhost`` and 127.0.0.1, signed by itself."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder


class TestTls:
    @staticmethod
    def serving(folder: Path, names: list[str]) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        context.sni_callback = lambda _, name, __: names.append(name)  # type: ignore[assignment]
        return context

    def ask(self, certificate: Path, url: str, *, trusted: bool = True) -> tuple[Any, list[str]]:
        names: list[str] = []
        trust = ssl.create_default_context()
        if trusted:
            trust.load_verify_locations(certificate / "cert.pem")

        def look_up(host: str, port: int) -> list[str]:
            return ["127.0.0.1"]

        async def inside() -> Any:
            client = Client(Resolver(guard, look_up), LIMITS, trust)
            try:
                first = await post(client, url.format(receiver.port), guard)
                assert await post(client, url.format(receiver.port), guard) == first
                return first
            except Undelivered as error:
                return str(error)
            finally:
                await client.close()

        with receiving(tls=self.serving(certificate, names)) as receiver:
            guard = Guard((f"127.0.0.1:{receiver.port}",))
            return asyncio.run(inside()), names

    def test_the_certificate_is_of_the_name_although_the_address_is_connected_to(
        self, certificate: Path
    ):
        assert self.ask(certificate, "https://localhost:{}/ok") == (Answer(200), ["localhost"])

    def test_an_address_as_host_is_verified_as_one(self, certificate: Path):
        assert self.ask(certificate, "https://127.0.0.1:{}/ok")[0] == Answer(200)

    def test_another_names_certificate_is_refused(self, certificate: Path):
        found, names = self.ask(certificate, "https://other.example:{}/ok")
        assert "its certificate is not good" in found and "other.example" in found
        assert names == ["other.example"]

    def test_one_that_nobody_trusts_is_refused(self, certificate: Path):
        found, _ = self.ask(certificate, "https://localhost:{}/ok", trusted=False)
        assert "its certificate is not good" in found

    def test_a_receiver_without_tls_is_told_apart(self, certificate: Path):
        with receiving() as receiver:
            guard = Guard((f"127.0.0.1:{receiver.port}",))

            async def inside() -> None:
                client = Client(Resolver(guard), LIMITS)
                await post(client, f"https://127.0.0.1:{receiver.port}/ok", guard)

            with pytest.raises(Undelivered, match=r"no TLS|cannot connect"):
                asyncio.run(inside())
            assert receiver.requests == []
