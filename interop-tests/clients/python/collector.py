"""A collector of flow telemetry on Qpid Proton: follows every router that makes itself known.

It takes one JSON argument (`host`, `port`; `seconds` to end by itself) and prints what it hears as
JSON lines: `beacon`, `heartbeat`, `record`. Numbers of attributes are given as texts.
"""

import json
import sys

from proton import Message, Data
from proton.handlers import MessagingHandler
from proton.reactor import Container


def emit(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


class Collector(MessagingHandler):
    def __init__(self, job):
        super().__init__(prefetch=0, auto_accept=False)
        self.job = job
        self.followed = {}

    def on_start(self, event):
        url = f"amqp://{self.job['host']}:{self.job['port']}"
        self.connection = event.container.connect(url, reconnect=False, sasl_enabled=False)
        self.container = event.container
        self.receive("mc/sfe.all")
        if self.job.get("seconds"):
            event.reactor.schedule(self.job["seconds"], self)

    def on_timer_task(self, event):
        self.connection.close()
        emit("done")

    def receive(self, address):
        self.container.create_receiver(self.connection, address)

    def on_link_opened(self, event):
        if event.link.is_receiver:
            address = event.link.remote_source.address
            event.link.flow(1000)
            emit("attached", address=address)
            for source in self.followed.values():
                source["waits"].discard(address)

    def on_sendable(self, event):
        for source in self.followed.values():
            if source["sender"] == event.sender and not source["asked"] and not source["waits"]:
                self.ask(source)

    def ask(self, source):
        source["asked"] = True
        source["sender"].send(Message(subject="FLUSH"))

    def on_delivery(self, event):
        delivery = event.delivery
        if delivery.link.is_sender or not delivery.readable or delivery.partial:
            return
        encoded = delivery.link.recv(delivery.pending)
        delivery.link.advance()
        delivery.settle()
        delivery.link.flow(1)
        self.message(delivery.link.source.address, encoded)
        for source in self.followed.values():
            if not source["asked"] and not source["waits"] and source["sender"].credit:
                self.ask(source)

    def message(self, address, encoded):
        sections = dict(read(encoded))
        subject = sections[0x73][3]
        number, to = sections[0x73][0], sections[0x73][2]
        properties = {str(key): value for key, value in sections.get(0x74, {}).items()}
        if subject == "BEACON":
            emit("beacon", id=number, to=to, properties=properties)
            self.follow(properties)
        elif subject == "HEARTBEAT":
            emit("heartbeat", id=number, to=to, properties=properties)
        elif subject == "RECORD":
            for record in sections[0x77]:
                values = {str(int(code)): value for code, value in record.items()}
                emit("record", address=address, record=values)

    def follow(self, beacon):
        if beacon["id"] in self.followed:
            return
        addresses = [beacon["address"] + suffix for suffix in ("", ".flows", ".logs")]
        sender = self.container.create_sender(self.connection, beacon["direct"])
        source = {"sender": sender, "waits": set(addresses), "asked": False}
        self.followed[beacon["id"]] = source
        for address in addresses:
            self.receive(address)

    def on_transport_error(self, event):
        emit("failed", scope="transport", condition=str(event.transport.condition))
        self.connection.close()

    def on_link_error(self, event):
        emit("failed", scope="link", condition=str(event.link.remote_condition))
        self.connection.close()


def read(encoded):
    """The sections of a message: (descriptor, value), by Proton's own decoder."""
    while encoded:
        data = Data()
        size = data.decode(encoded)
        encoded = encoded[size:]
        data.rewind()
        data.next()
        described = data.get_py_described()
        yield int(described.descriptor), described.value


if __name__ == "__main__":
    Container(Collector(json.loads(sys.argv[1]))).run()
