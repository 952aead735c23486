"""An AMQP client on Qpid Proton, told what to do by one JSON argument.

It prints what happens as JSON lines; ../README.md lists operations and events.
"""

import hashlib
import json
import socket
import sys
import threading

from proton import (Array, Condition, Data, Delivery, Described, Endpoint, Link, Message, SSLDomain,
                    UNDESCRIBED, byte, char, decimal128, decimal32, decimal64, float32, int32,
                    short, symbol, timestamp, ubyte, uint, ulong, ushort)
from proton import Connection, SASL, Transport
from proton.handlers import MessagingHandler
from proton.reactor import AtMostOnce, Container, LinkOption
from uuid import UUID


def emit(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


class Client(MessagingHandler):
    """Connects, reports refusals of any scope and leaves the rest to subclasses."""

    def __init__(self, job):
        super().__init__(prefetch=0, auto_accept=False, auto_settle=not job.get("keeps_unsettled"))
        self.job = job
        self.finished = False

    def on_start(self, event):
        scheme = "amqps" if self.job.get("tls") else "amqp"
        url = f"{scheme}://{self.job['host']}:{self.job['port']}"
        self.connection = event.container.connect(url, reconnect=False, **self.security())
        self.opened(event.container)

    def security(self):
        options = {}
        if tls := self.job.get("tls"):
            domain = SSLDomain(SSLDomain.MODE_CLIENT)
            domain.set_trusted_ca_db(tls["ca"])
            if tls.get("certificate"):
                domain.set_credentials(tls["certificate"], tls["key"], None)
            domain.set_peer_authentication(SSLDomain.VERIFY_PEER_NAME)
            options["ssl_domain"] = domain
        if sasl := self.job.get("sasl"):
            options["allowed_mechs"] = sasl["mechanism"]
            if sasl.get("user"):
                options.update(user=sasl["user"], password=sasl["password"])
        else:
            options["sasl_enabled"] = False
        if offered := self.job.get("offered_capabilities"):
            options["offered_capabilities"] = [symbol(capability) for capability in offered]
        return options

    def opened(self, container):
        """Creates the links; Proton pipelines them after open."""

    def finish(self, **fields):
        if not self.finished:
            self.finished = True
            emit("done", **fields)
            self.connection.close()

    def failed(self, scope, condition):
        if not self.finished:
            self.finished = True
            emit("failed", scope=scope, condition=condition.name if condition else None,
                 description=condition.description if condition else None)
            self.connection.close()

    def on_transport_error(self, event):
        self.failed("transport", event.transport.condition)

    def on_connection_error(self, event):
        self.failed("connection", event.connection.remote_condition)

    def on_session_error(self, event):
        self.failed("session", event.session.remote_condition)

    def on_link_error(self, event):
        self.failed("link", event.link.remote_condition)

    def on_link_closing(self, event):
        self.failed("link", event.link.remote_condition)

    def on_disconnected(self, event):
        self.failed("transport", None)


class Probe(Client):
    """`connect`: opens, reports what the peer announces, closes."""

    def on_connection_opened(self, event):
        peer = event.connection
        offered = peer.remote_offered_capabilities
        properties = peer.remote_properties or {}
        emit("opened", container=peer.remote_container,
             offered=[str(c) for c in (offered.elements if isinstance(offered, Array) else offered or [])],
             properties={str(k): str(v) for k, v in properties.items()})
        self.finish()


PIECE = 262144


class Attaching(LinkOption):
    """Settle modes and termini that the shorthands of Proton do not cover."""

    def __init__(self, job):
        self.job = job

    def apply(self, link):
        if self.job.get("rcv_settle_mode") == "second":
            link.rcv_settle_mode = Link.RCV_SECOND
        elif link.is_receiver:
            link.rcv_settle_mode = Link.RCV_FIRST
        if self.job.get("snd_settle_mode") == "unsettled":
            link.snd_settle_mode = Link.SND_UNSETTLED
        capabilities = link.target.capabilities
        for capability in self.job.get("target_capabilities", []):
            capabilities.put_symbol(symbol(capability))

    def test(self, link):
        return True


class Send(Client):
    def opened(self, container):
        options = [Attaching(self.job)]
        if self.job.get("settled"):
            options.append(AtMostOnce())
        self.sent = 0
        self.settled = 0
        self.order = []
        self.rest = b""
        self.waiting = False
        self.sender = container.create_sender(self.connection, self.job.get("address"), options=options)

    def on_link_opened(self, event):
        if event.link.remote_target.type:
            emit("attached", address=event.link.remote_target.address)

    def on_sendable(self, event):
        self.pump(event.reactor)

    def on_timer_task(self, event):
        self.waiting = False
        self.pump(event.reactor)

    def pump(self, reactor):
        """Sends while there is credit. Large messages go in pieces, as fast as they leave: Proton
        takes long over a large delivery that it is given at once."""
        while self.rest or (self.sender.credit and self.sent < self.job["count"]):
            if not self.rest:
                self.delivery = self.sender.delivery(str(self.sent))
                self.order.append(self.delivery.tag)
                self.rest = memoryview(encoded(self.job, self.sent))
            if self.sender.session.outgoing_bytes > PIECE:
                self.wait(reactor)
                return
            piece, self.rest = self.rest[:PIECE], self.rest[PIECE:]
            self.sender.stream(bytes(piece))
            if not self.rest:
                self.sender.advance()
                if self.job.get("settled"):
                    self.delivery.settle()
                self.sent += 1
        if self.job.get("settled") and self.sent == self.job["count"]:
            self.finish(sent=self.sent)

    def wait(self, reactor):
        if not self.waiting:
            self.waiting = True
            reactor.schedule(0.002, self)

    def on_accepted(self, event):
        self.outcome(event.delivery)

    def on_rejected(self, event):
        self.outcome(event.delivery)

    def on_released(self, event):
        self.outcome(event.delivery)

    def on_settled(self, event):
        if self.job.get("keeps_unsettled"):
            emit("settled", index=self.order.index(event.delivery.tag), **remote_outcome(event.delivery))
            self.settle_one()

    def outcome(self, delivery):
        index = self.order.index(delivery.tag)
        if self.job.get("keeps_unsettled"):
            emit("outcome", index=index, settled=delivery.settled, **remote_outcome(delivery))
        else:
            emit("outcome", index=index, **remote_outcome(delivery))
            self.settle_one()

    def settle_one(self):
        self.settled += 1
        if self.settled == self.job["count"]:
            self.finish(sent=self.sent)


class Interleave(Client):
    """`interleave`: begins `count` messages on links of their own, one after the other, and finishes
    them in the reverse order, each when the next one has been settled."""

    def opened(self, container):
        self.senders = [container.create_sender(self.connection, self.job["address"], name=f"stream-{number}",
                                                options=[Attaching(self.job)])
                        for number in range(self.job["count"])]
        self.wholes = [encoded(self.job, number) for number in range(self.job["count"])]
        self.begun = 0

    def on_sendable(self, event):
        if self.begun < len(self.senders) and all(sender.credit for sender in self.senders):
            for number, sender in enumerate(self.senders):
                sender.delivery(str(number))
                sender.stream(self.wholes[number][:HALF])
                self.begun += 1
            event.reactor.schedule(0.3, self)

    def on_timer_task(self, event):
        self.finish_last()

    def finish_last(self):
        number = len(self.senders) - 1
        self.senders[number].stream(self.wholes[number][HALF:])
        self.senders[number].advance()

    def on_settled(self, event):
        emit("outcome", index=len(self.senders) - 1, **remote_outcome(event.delivery))
        self.senders.pop()
        if self.senders:
            self.finish_last()
        else:
            self.finish(sent=self.begun)


HALF = 500


class Abort(Send):
    """`abort`: the first half of a message, then abort, then a whole message."""

    def opened(self, container):
        super().opened(container)
        self.aborted = None

    def on_sendable(self, event):
        if self.aborted is None:
            self.aborted = self.sender.delivery("aborted")
            whole = encoded(self.job, 0)
            self.sender.stream(whole[:len(whole) // 2])
            event.reactor.schedule(0.3, self)

    def on_timer_task(self, event):
        self.aborted.abort()
        emit("aborted")
        delivery = self.sender.delivery("0")
        self.order.append(delivery.tag)
        self.sender.stream(encoded(self.job, 0))
        self.sender.advance()
        self.sent = 1


class Receive(Client):
    def opened(self, container):
        self.count = self.job.get("count", 0)
        self.received = 0
        self.partial = {}
        self.pending = 0
        self.numbers = {}
        dynamic = bool(self.job.get("dynamic"))
        self.receiver = container.create_receiver(
            self.connection, None if dynamic else self.job.get("address"), dynamic=dynamic,
            name=self.job.get("link"), options=[Attaching(self.job)])

    def on_link_opening(self, event):
        if self.job.get("refuses_links") and event.link != self.receiver:
            event.link.open()
            event.link.close()
            emit("refused")

    def on_link_opened(self, event):
        if event.link.state & Endpoint.LOCAL_CLOSED:
            return
        if event.link.is_receiver and event.link.remote_source.type:
            event.link.flow(self.job.get("credit", 100))
            modes = {Link.SND_UNSETTLED: "unsettled", Link.SND_SETTLED: "settled", Link.SND_MIXED: "mixed"}
            emit("attached", address=event.link.remote_source.address,
                 snd_settle_mode=modes[event.link.remote_snd_settle_mode])

    def on_delivery(self, event):
        delivery = event.delivery
        if not delivery.link.is_receiver:
            return
        if delivery.aborted:
            emit("aborted")
            self.partial.pop(delivery.link.name, None)
            delivery.settle()
            delivery.link.flow(1)
        elif delivery.readable:
            partial = self.partial.setdefault(delivery.link.name, bytearray())
            partial += delivery.link.recv(delivery.pending) if delivery.pending else b""
            if not delivery.partial:
                encoded_message = bytes(self.partial.pop(delivery.link.name))
                settled = delivery.settled
                delivery.link.advance()
                self.message(event, delivery, encoded_message, settled)
        elif delivery.settled and not self.finished:
            delivery.settle()
            self.settle_one(delivery)

    def message(self, event, delivery, encoded_message, settled):
        emit("message", settled=settled, **described(self.job, encoded_message))
        second = self.job.get("rcv_settle_mode") == "second" and not settled
        outcomes = self.job.get("outcomes") or [{"outcome": "accepted"}]
        number = self.received
        outcome = outcomes[number % len(outcomes)]
        self.decide(delivery, outcome)
        self.received += 1
        if not self.job.get("hold_credit"):
            delivery.link.flow(1)
        if second:
            # Proton takes tags for text, which those of more than 127 deliveries are not.
            self.numbers[delivery.tag] = number
            self.pending += 1
        elif outcome["outcome"] != "none":
            delivery.settle()
        self.check_finished()

    def decide(self, delivery, outcome):
        kind = outcome["outcome"]
        if kind == "accepted":
            delivery.update(Delivery.ACCEPTED)
        elif kind == "released":
            delivery.update(Delivery.RELEASED)
        elif kind == "rejected":
            delivery.local.condition = Condition(outcome["condition"], outcome.get("description"))
            delivery.update(Delivery.REJECTED)
        elif kind == "modified":
            delivery.local.failed = outcome.get("delivery_failed", False)
            delivery.local.undeliverable = outcome.get("undeliverable_here", False)
            delivery.local.annotations = {symbol(k): v for k, v in outcome.get("annotations", {}).items()}
            delivery.update(Delivery.MODIFIED)

    def settle_one(self, delivery):
        self.pending -= 1
        emit("settled", number=self.numbers[delivery.tag])
        self.check_finished()

    def check_finished(self):
        if self.count and self.received >= self.count and not self.pending:
            self.finish(received=self.received)


class Drain(Receive):
    """`drain`: more credit than there are messages, then drain; credit must come back 0."""

    def on_link_opened(self, event):
        super().on_link_opened(event)
        event.reactor.schedule(self.job.get("delay", 0.3), self)

    def on_timer_task(self, event):
        self.receiver.drain_mode = True
        self.receiver.flow(0)

    def message(self, event, delivery, encoded_message, settled):
        self.job["hold_credit"] = True
        super().message(event, delivery, encoded_message, settled)

    def on_link_flow(self, event):
        if event.link.is_receiver and event.link.drain_mode and not event.link.credit:
            emit("drained", received=self.received)
            self.finish(received=self.received)

    def check_finished(self):
        pass


class Reattach(Receive):
    """`reattach`: receives `count`, closes or detaches the link, attaches it again by its
    name, receives `count` again."""

    def opened(self, container):
        super().opened(container)
        self.attached_again = False

    def check_finished(self):
        if self.received < self.count or self.pending:
            return
        if self.attached_again:
            self.finish(received=self.count * 2)
        elif self.job.get("closed", True):
            self.receiver.close()
        else:
            self.receiver.detach()

    def on_link_closed(self, event):
        self.again(event)

    def on_link_remote_detach(self, event):
        event.link.detach()
        self.again(event)

    def again(self, event):
        if not self.finished and not self.attached_again:
            emit("detached")
            self.attached_again = True
            self.received = 0
            session = self.receiver.session
            self.receiver.free()
            self.receiver = session.receiver(self.job["link"])
            self.receiver.source.address = self.job["address"]
            self.receiver.open()


class Request(Receive):
    """`request`: asks `address` (or `to` by the anonymous relay), reads the answers."""

    def opened(self, container):
        self.job["dynamic"] = True
        super().opened(container)
        self.sender = None

    def on_link_opened(self, event):
        super().on_link_opened(event)
        if event.link.is_receiver:
            self.reply_to = event.link.remote_source.address
            self.sender = event.container.create_sender(self.connection, self.job.get("address"))

    def on_sendable(self, event):
        if self.sender == event.sender:
            while self.sender.credit and self.job["requests"]:
                self.sender.send(request(self.job, self.job["requests"].pop(0), self.reply_to))


class Respond(Receive):
    """`respond`: answers each message to its `reply-to`, through the anonymous relay."""

    def opened(self, container):
        super().opened(container)
        self.sender = container.create_sender(self.connection, None)
        self.answered = 0

    def message(self, event, delivery, encoded_message, settled):
        asked = Message()
        asked.decode(encoded_message)
        answer = Message(address=asked.reply_to, correlation_id=asked.correlation_id or asked.id,
                         subject=asked.subject, body=asked.body, inferred=asked.inferred)
        self.sender.send(answer)
        super().message(event, delivery, encoded_message, settled)

    def on_accepted(self, event):
        self.outcome(event.delivery)

    def on_rejected(self, event):
        self.outcome(event.delivery)

    def on_released(self, event):
        self.outcome(event.delivery)

    def outcome(self, delivery):
        emit("outcome", index=self.answered, **remote_outcome(delivery))
        self.answered += 1
        self.check_finished()

    def check_finished(self):
        if self.count and self.answered == self.count:
            self.finish(received=self.received)


def request(job, fields, reply_to):
    message = Message(reply_to=reply_to, correlation_id=fields.get("correlation_id"),
                      subject=fields.get("subject"), body=from_typed(fields["body"]),
                      properties={k: from_typed(v) for k, v in fields.get("application_properties", {}).items()})
    message.inferred = isinstance(message.body, bytes)
    if job.get("to"):
        message.address = job["to"]
    return message


def remote_outcome(delivery):
    state = delivery.remote_state
    remote = delivery.remote
    if state == Delivery.ACCEPTED:
        return {"outcome": "accepted"}
    if state == Delivery.RELEASED:
        return {"outcome": "released"}
    if state == Delivery.REJECTED:
        condition = remote.condition
        return {"outcome": "rejected", "condition": condition and condition.name,
                "description": condition and condition.description}
    if state == Delivery.MODIFIED:
        return {"outcome": "modified", "delivery_failed": remote.failed,
                "undeliverable_here": remote.undeliverable,
                "annotations": {str(k): v for k, v in (remote.annotations or {}).items()}}
    return {"outcome": str(state)}


# Messages: built from the typed description in a job, described in the same form on arrival.

def body_of(index, size):
    block = bytes((i * 31 + index) % 251 for i in range(251))
    return (block * (size // 251 + 1))[:size]


def encoded(job, index):
    if job.get("raw"):
        return bytes.fromhex(job["raw"])
    messages = job.get("messages") or [{}]
    template = messages[index % len(messages)]
    message = Message()
    if "data" in template:
        message.body, message.inferred = bytes.fromhex(template["data"]), True
    elif "value" in template:
        message.body = from_typed(template["value"])
    elif "sequence" in template:
        message.body, message.inferred = [from_typed(v) for v in template["sequence"]], True
    else:
        sizes = job.get("sizes") or [64]
        message.body, message.inferred = body_of(index, sizes[index % len(sizes)]), True
    if "properties" not in template:
        message.subject = str(index)
    if job.get("to"):
        message.address = job["to"]
    header = template.get("header", {})
    if "durable" in header:
        message.durable = header["durable"]
    if "priority" in header:
        message.priority = header["priority"]
    if "ttl" in header:
        message.ttl = header["ttl"] / 1000
    for name, attribute in PROPERTIES:
        if name in template.get("properties", {}):
            value = from_typed(template["properties"][name])
            setattr(message, attribute, value / 1000 if isinstance(value, timestamp) else value)
    message.instructions = from_fields(template.get("delivery_annotations"))
    message.annotations = from_fields(template.get("message_annotations"))
    if "application_properties" in template:
        message.properties = {k: from_typed(v) for k, v in template["application_properties"].items()}
    result = message.encode()
    if "footer" in template:
        footer = Data()
        footer.put_object(Described(ulong(0x78), from_fields(template["footer"])))
        result += footer.encode()
    return result


def described(job, encoded_message):
    sections = {}
    rest = encoded_message
    owners = []  # of the memory that binary values show
    while rest:
        data = Data()
        owners.append(data)
        rest = rest[data.decode(rest):]
        data.rewind()
        data.next()
        section = data.get_object()
        sections.setdefault(SECTIONS[int(section.descriptor)], []).append(section.value)
    body = b"".join(sections.get("data", []))
    fields = {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    header = sections.get("header", [[]])[0]
    fields["header"] = {name: value for name, value in zip(HEADER, map(plain, header)) if value is not None}
    names = [name for name, _ in PROPERTIES]
    properties = dict(zip(names, sections.get("properties", [[]])[0]))
    fields["subject"] = properties.get("subject")
    fields["correlation_id"] = plain(properties.get("correlation_id"))
    fields["to"] = properties.get("to")
    if job.get("describe"):
        message = {"header": fields["header"],
                   "properties": {k: to_typed(v) for k, v in properties.items() if v is not None}}
        for name in ("delivery_annotations", "message_annotations", "application_properties", "footer"):
            if name in sections:
                message[name] = {str(k): to_typed(v) for k, v in sections[name][0].items()}
        if "data" in sections:
            message["data"] = body.hex()
        if "sequence" in sections:
            message["sequence"] = [to_typed(v) for v in sections["sequence"][0]]
        if "value" in sections:
            message["value"] = to_typed(sections["value"][0])
        fields["message"] = message
        fields["raw"] = encoded_message.hex()
    if job.get("plain_body") and "value" in sections:
        fields["body"] = plain(sections["value"][0])
        fields["application_properties"] = plain(sections.get("application_properties", [{}])[0])
    return fields


SECTIONS = {0x70: "header", 0x71: "delivery_annotations", 0x72: "message_annotations", 0x73: "properties",
            0x74: "application_properties", 0x75: "data", 0x76: "sequence", 0x77: "value", 0x78: "footer"}
HEADER = ["durable", "priority", "ttl", "first_acquirer", "delivery_count"]
PROPERTIES = [("message_id", "id"), ("user_id", "user_id"), ("to", "address"), ("subject", "subject"),
              ("reply_to", "reply_to"), ("correlation_id", "correlation_id"), ("content_type", "content_type"),
              ("content_encoding", "content_encoding"), ("absolute_expiry_time", "expiry_time"),
              ("creation_time", "creation_time"), ("group_id", "group_id"), ("group_sequence", "group_sequence"),
              ("reply_to_group_id", "reply_to_group_id")]
ARRAY_ELEMENTS = {"int": (Data.INT, int32), "string": (Data.STRING, str), "symbol": (Data.SYMBOL, symbol)}
SIMPLE = {"ubyte": ubyte, "ushort": ushort, "uint": uint, "ulong": lambda v: ulong(int(v)), "byte": byte,
          "short": short, "int": int32, "long": int, "float": float32, "double": float,
          "boolean": bool, "string": str, "symbol": symbol, "timestamp": timestamp,
          "char": lambda v: char(chr(v)), "uuid": lambda v: UUID(hex=v), "binary": bytes.fromhex,
          "decimal32": lambda v: decimal32(int(v, 16)), "decimal64": lambda v: decimal64(int(v, 16)),
          "decimal128": lambda v: decimal128(bytes.fromhex(v))}


def from_fields(fields):
    return None if fields is None else {symbol(k): from_typed(v) for k, v in fields.items()}


def from_typed(typed):
    kind, *rest = typed
    if kind == "null":
        return None
    if kind == "list":
        return [from_typed(v) for v in rest[0]]
    if kind == "map":
        return {from_typed(k): from_typed(v) for k, v in rest[0]}
    if kind == "array":
        code, make = ARRAY_ELEMENTS[rest[0][0][0]]
        return Array(UNDESCRIBED, code, *(make(v) for _, v in rest[0]))
    if kind == "described":
        return Described(from_typed(rest[0]), from_typed(rest[1]))
    return SIMPLE[kind](rest[0])


def to_typed(value):
    if value is None:
        return ["null"]
    if isinstance(value, bool):
        return ["boolean", value]
    if isinstance(value, Described):
        return ["described", to_typed(value.descriptor), to_typed(value.value)]
    if isinstance(value, Array):
        return ["array", [to_typed(v) for v in value.elements]]
    if isinstance(value, list):
        return ["list", [to_typed(v) for v in value]]
    if isinstance(value, dict):
        return ["map", [[to_typed(k), to_typed(v)] for k, v in value.items()]]
    if isinstance(value, (bytes, memoryview)) and not isinstance(value, decimal128):
        return ["binary", bytes(value).hex()]
    if isinstance(value, UUID):
        return ["uuid", value.hex]
    for kind, python_type in (("ubyte", ubyte), ("ushort", ushort), ("uint", uint), ("byte", byte),
                              ("short", short), ("int", int32), ("timestamp", timestamp)):
        if isinstance(value, python_type):
            return [kind, int(value)]
    if isinstance(value, decimal32):
        return ["decimal32", f"{int(value):08x}"]
    if isinstance(value, decimal64):
        return ["decimal64", f"{int(value):016x}"]
    if isinstance(value, decimal128):
        return ["decimal128", bytes(value).hex()]
    if isinstance(value, ulong):
        return ["ulong", str(int(value))]
    if isinstance(value, float32):
        return ["float", float(value)]
    if isinstance(value, float):
        return ["double", value]
    if isinstance(value, int):
        return ["long", str(value)]
    if isinstance(value, char):
        return ["char", ord(value)]
    if isinstance(value, symbol):
        return ["symbol", str(value)]
    return ["string", str(value)]


def plain(value):
    """JSON without types, for management replies."""
    if isinstance(value, Array):
        return [plain(v) for v in value.elements]
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    return str(value)


def pipeline(job):
    """`pipeline`: everything up to attach in one write, then reads the answers. Proton's own SASL
    layer waits for the mechanisms, so here the layer is a constant."""
    connection = Connection()
    connection.container = "pipelined"
    connection.open()
    session = connection.session()
    session.open()
    receiver = session.receiver("pipelined")
    receiver.source.address = job["address"]
    receiver.open()
    transport = Transport()
    transport.bind(connection)
    first = SASL_ANONYMOUS if job.get("sasl") else b""
    while transport.pending() > 0:
        part = transport.peek(transport.pending())
        transport.pop(len(part))
        first += part
    with socket.create_connection((job["host"], job["port"]), timeout=5) as stream:
        stream.sendall(first)
        emit("written", bytes=len(first))
        if job.get("sasl"):
            transport.push(after_sasl(stream))
        while not receiver.remote_source.address:
            read = stream.recv(65536)
            if not read:
                emit("failed", scope="transport", condition=None, description="end of stream")
                return
            transport.push(read)
            while transport.pending() > 0:
                part = transport.peek(transport.pending())
                stream.sendall(part)
                transport.pop(len(part))
    emit("attached", address=receiver.remote_source.address)
    emit("done")


def after_sasl(stream):
    """Reads up to sasl-outcome, which must be ok, and returns what came behind it."""
    read = b""
    while True:
        part = stream.recv(65536)
        if not part:
            raise EOFError("end of stream within SASL")
        read += part
        rest = read[8:]
        while len(rest) >= 4 and len(rest) >= (size := int.from_bytes(rest[:4])):
            frame, rest = rest[:size], rest[size:]
            if frame[10] == SASL_OUTCOME:
                return rest


# The SASL header and sasl-init with mechanism ANONYMOUS.
SASL_ANONYMOUS = b"AMQP\3\1\0\0" b"\0\0\0\x19\2\1\0\0" b"\0\x53\x41\xc0\x0c\1\xa3\x09ANONYMOUS"
SASL_OUTCOME = 0x44

OPERATIONS = {"connect": Probe, "send": Send, "receive": Receive, "request": Request, "respond": Respond,
              "drain": Drain, "reattach": Reattach, "abort": Abort, "interleave": Interleave}


def main():
    job = json.loads(sys.argv[1])
    threading.excepthook = lambda args: sys.__excepthook__(*args[:3])
    if job["operation"] == "pipeline":
        pipeline(job)
        return
    container = Container(OPERATIONS[job["operation"]](job))
    container.container_id = job.get("container", "proton")
    container.run()


if __name__ == "__main__":
    main()
