"""Speaks badly to the server at 127.0.0.1:PORT, and says what came of it as JSON."""
import json
import socket
import sys
import time

port = int(sys.argv[1])


def ask(octets, end=False, seconds=8.0):
    """What comes back until the other end closes; None: it does not within the time."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        answer, deadline = b"", time.monotonic() + seconds
        try:
            connection.sendall(octets)
            if end:
                connection.shutdown(socket.SHUT_WR)
            while time.monotonic() < deadline:
                connection.settimeout(max(deadline - time.monotonic(), 0.01))
                part = connection.recv(65536)
                if not part:
                    return answer.decode("latin-1")
                answer += part
        except socket.timeout:
            return None
        except (ConnectionError, BrokenPipeError):
            return answer.decode("latin-1")
    return None


def status(answer):
    if answer is None:
        return "open"
    return answer.split(" ")[1] if answer.startswith("HTTP/1.1 ") else "closed"


health = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
results = {
    "garbage": status(ask(bytes(range(256)) * 4)),
    "tls": status(ask(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500))),
    "longHeader": status(ask(b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000 + b"\r\n\r\n")),
    "manyHeaders": status(
        ask(b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: a\r\n" % i for i in range(2000)) + b"\r\n")
    ),
    "longPath": status(ask(b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n")),
    "body": status(
        ask(b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"a" * 100_000)
    ),
    "post": status(ask(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")),
    "nothing": status(ask(b"", end=True)),
    "path": status(ask(b"GET /etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n")),
    "two": (ask(health + health) or "").count("HTTP/1.1 200"),
}
# Slow: an octet every half a second. It must not last.
start = time.monotonic()
with socket.create_connection(("127.0.0.1", port), timeout=10) as slow:
    try:
        for octet in health * 4:
            slow.sendall(bytes([octet]))
            slow.settimeout(0.5)
            try:
                if not slow.recv(1):
                    break
            except socket.timeout:
                pass
    except ConnectionError:
        pass
results["slowSeconds"] = time.monotonic() - start
# Many at once that say nothing: those who come later get no place, and then a place again.
crowd = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(64)]
results["crowded"] = status(ask(health, seconds=1.0))
for connection in crowd:
    connection.close()
deadline = time.monotonic() + 10
results["after"] = "closed"
while results["after"] != "200" and time.monotonic() < deadline:
    results["after"] = status(ask(health))
print(json.dumps(results))
