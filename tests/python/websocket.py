"""A WebSocket server that echoes, or a client that counts what comes back.

    websocket.py serve ADDRESS PORT
    websocket.py ask ADDRESS PORT NAME AUTHORITY
"""

import socket
import ssl
import sys

from websockets.sync.client import connect
from websockets.sync.server import serve


def echo(connection):
    for message in connection:
        connection.send(message)


def ask(address, port, name, authority):
    context = ssl.create_default_context(cafile=authority)
    way = socket.create_connection((address, int(port)))
    with connect(f"wss://{name}:{port}/ws", sock=way, ssl=context) as connection:
        for number in range(100):
            message = f"message {number} " + "x" * number * 100
            connection.send(message)
            assert connection.recv(timeout=20) == message
    print("100 messages came back")


if sys.argv[1] == "serve":
    with serve(echo, sys.argv[2], int(sys.argv[3])) as server:
        print("serving", flush=True)
        server.serve_forever()
else:
    ask(*sys.argv[2:])
