"""A small broker on Qpid Proton, to which a router attaches auto links.

It takes one JSON argument: `address` is its container-id; with `listen` it waits for connections on
that port, else it makes one to `host` and `port`. Every address is a queue of its own, but
`missing`, which is refused. It prints JSON lines: `attached` (`address`, `role` of its end),
`refused`, `stored` (`address`, `id`).
"""

import json
import sys
from collections import defaultdict, deque

from proton import Condition, Delivery, Endpoint
from proton.handlers import MessagingHandler
from proton.reactor import Container, Handler


def emit(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


class Refusal(Handler):
    def __init__(self, link):
        super().__init__()
        self.link = link

    def on_timer_task(self, event):
        self.link.condition = Condition("amqp:not-found", "there is no queue of this name")
        self.link.close()


class Broker(MessagingHandler):
    def __init__(self, job):
        super().__init__(prefetch=100, auto_accept=False)
        self.job = job
        self.queues = defaultdict(deque)
        self.receivers = defaultdict(list)

    def on_start(self, event):
        if self.job.get("listen"):
            self.acceptor = event.container.listen(f"127.0.0.1:{self.job['listen']}")
            emit("listening")
        else:
            url = f"amqp://{self.job['host']}:{self.job['port']}"
            event.container.connect(url, reconnect=False, sasl_enabled=False)

    def on_connection_opening(self, event):
        event.connection.container = self.job["address"]

    def on_link_opening(self, event):
        link = event.link
        terminus = link.remote_source if link.is_sender else link.remote_target
        address = terminus.address
        if address == "missing":
            # The library opens the link after this call: it is closed after that.
            event.reactor.schedule(0, Refusal(link))
            emit("refused", address=address)
            return
        link.source.copy(link.remote_source)
        link.target.copy(link.remote_target)
        link.open()
        if link.is_sender:
            self.receivers[address].append(link)
        emit("attached", address=address, role="sender" if link.is_sender else "receiver")

    def on_sendable(self, event):
        self.serve(event.link.source.address)

    def on_message(self, event):
        address = event.link.target.address
        self.queues[address].append(event.message)
        event.delivery.update(Delivery.ACCEPTED)
        event.delivery.settle()
        emit("stored", address=address, id=str(event.message.id))
        self.serve(address)

    def serve(self, address):
        queue = self.queues[address]
        links = [link for link in self.receivers[address] if link.state & Endpoint.REMOTE_ACTIVE]
        self.receivers[address] = links
        for link in links:
            while queue and link.credit > 0:
                link.send(queue.popleft())


def main():
    job = json.loads(sys.argv[1])
    container = Container(Broker(job))
    container.container_id = job["address"]
    container.run()


main()
