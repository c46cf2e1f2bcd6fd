"""What a user of the `kubernetes` package does: exec and port-forward by WebSocket."""

import sys
import time

from kubernetes import client, config
from kubernetes.stream import portforward, stream

kubeconfig, namespace, port, closed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
config.load_kube_config(kubeconfig)
# Either call changes the client that it is given.
core = client.CoreV1Api(client.ApiClient())
EVERY_BYTE = bytes(range(256)) * 1000


def session(command, **flags):
    wanted = {"stdin": False, "stdout": True, "stderr": True, "tty": False, **flags}
    return stream(
        core.connect_get_namespaced_pod_exec, "snake", namespace, container="app",
        command=command, _preload_content=False, **wanted,
    )


# Both outputs and the exit code.
told = session(["sh", "-c", "echo out; echo err >&2; exit 42"])
told.run_forever(timeout=60)
assert (told.read_stdout(timeout=1), told.read_stderr(timeout=1)) == ("out\n", "err\n")
assert told.returncode == 42, told.returncode

# Another way to ask: all at once.
text = stream(
    core.connect_get_namespaced_pod_exec, "snake", namespace, command=["echo", "zwölf"],
    stdin=False, stdout=True, stderr=True, tty=False,
)
assert text == "zwölf\n", text

# Bytes that are no text, in and out. v4 has no end of input, so the command counts.
cat = session(["head", "-c", str(len(EVERY_BYTE))], stdin=True, binary=True)
for at in range(0, len(EVERY_BYTE), 10000):
    cat.write_stdin(EVERY_BYTE[at:at + 10000])
cat.run_forever(timeout=60)
back = cat.read_stdout(timeout=1)
assert back == EVERY_BYTE, len(back)

# A terminal: its size is channel 4.
screen = session(["sh", "-c", "read line; stty size; exit 5"], stdin=True, tty=True)
screen.write_channel(4, '{"Width": 77, "Height": 33}')
screen.write_stdin("go\n")
screen.run_forever(timeout=60)
assert "33 77" in screen.read_stdout(timeout=1)
assert screen.returncode == 5, screen.returncode

# Ports: one that answers and one that is closed.
ports = portforward(
    client.CoreV1Api(client.ApiClient()).connect_get_namespaced_pod_portforward,
    "snake-echo", namespace, ports=f"{port},{closed}",
)
line = ports.socket(port)
line.settimeout(60)
line.sendall(EVERY_BYTE)
back = b""
while len(back) < len(EVERY_BYTE):
    chunk = line.recv(65536)
    assert chunk, len(back)
    back += chunk
    # Before what was said comes the number of the process there.
    if b"\n" in back[:12] and back[:1].isdigit():
        back = back.split(b"\n", 1)[1]
assert back == EVERY_BYTE
patience = time.time() + 60
while ports.error(closed) is None and time.time() < patience:
    time.sleep(0.05)
assert "refused" in ports.error(closed), ports.error(closed)
assert ports.error(port) is None, ports.error(port)
line.close()
print("all well")
