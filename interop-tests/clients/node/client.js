'use strict';
// An AMQP client on rhea, told what to do by one JSON argument.
// It prints what happens as JSON lines; ../README.md lists operations and events.

const crypto = require('crypto');
const fs = require('fs');
const rhea = require('rhea');
const { types, message } = rhea;

const job = JSON.parse(process.argv[2]);
const MODIFIED_STAYS_MODIFIED = { treat_modified_as_released: false };
let connection;
let finished = false;

function emit(event, fields) {
    process.stdout.write(JSON.stringify({ event, ...fields }) + '\n');
}

function finish(fields) {
    if (finished) return;
    finished = true;
    emit('done', fields);
    connection.close();
}

function failed(scope, error) {
    if (finished) return;
    finished = true;
    emit('failed', { scope, condition: error && error.condition, description: error && (error.description || error.message) });
    if (connection) connection.close();
}

// Keeps the encoded form of each message beside rhea's decoded one.
const decode = message.decode;
message.decode = (encoded) => {
    const decoded = decode(encoded);
    Object.defineProperty(decoded, 'encoded', { value: encoded, enumerable: false });
    return decoded;
};

function connect() {
    const options = { host: job.host, port: job.port, reconnect: false, container_id: job.container || 'rhea' };
    if (job.tls) {
        Object.assign(options, { transport: 'tls', ca: [fs.readFileSync(job.tls.ca)], rejectUnauthorized: true });
        if (job.tls.certificate) {
            options.cert = fs.readFileSync(job.tls.certificate);
            options.key = fs.readFileSync(job.tls.key);
        }
    }
    if (job.sasl) {
        const mechanisms = rhea.sasl.client_mechanisms();
        if (job.sasl.mechanism === 'ANONYMOUS') mechanisms.enable_anonymous('interop');
        if (job.sasl.mechanism === 'EXTERNAL') mechanisms.enable_external();
        if (job.sasl.mechanism === 'PLAIN') mechanisms.enable_plain(job.sasl.user, job.sasl.password);
        options.sasl_mechanisms = mechanisms;
    }
    if (job.offered_capabilities) options.offered_capabilities = job.offered_capabilities;
    if (job.websocket) {
        const open = rhea.websocket_connect(require('ws'));
        const scheme = job.tls ? 'wss' : 'ws';
        const tls = { ca: options.ca, cert: options.cert, key: options.key };
        options.connection_details = open(`${scheme}://${job.host}:${job.port}/`, ['amqp'], tls);
    }
    connection = rhea.connect(options);
    connection.on('connection_error', (context) => failed(context.error && context.error.condition === 'amqp:unauthorized-access' && !connection.is_open() ? 'sasl' : 'connection', context.error || connection.error));
    connection.on('connection_close', () => failed('connection', connection.error));
    connection.on('session_error', (context) => failed('session', context.session.error));
    connection.on('sender_error', (context) => failed('link', context.sender.error));
    connection.on('receiver_error', (context) => failed('link', context.receiver.error));
    connection.on('disconnected', (context) => failed('transport', context.error));
    rhea.on('error', (error) => failed('error', error));
    return connection;
}

function probe() {
    connect().on('connection_open', () => {
        const offered = connection.offered_capabilities || [];
        emit('opened', {
            container: connection.container_id,
            offered: (Array.isArray(offered) ? offered : [offered]).map(String),
            properties: Object.fromEntries(Object.entries(connection.properties || {}).map(([k, v]) => [k, String(v)])),
        });
        finish({});
    });
}

function send() {
    const options = { target: job.address ? { address: job.address } : {}, snd_settle_mode: job.settled ? 1 : 2, ...MODIFIED_STAYS_MODIFIED };
    const sender = connect().open_sender(options);
    const order = new Map();
    let sent = 0;
    let settled = 0;
    connection.on('sender_open', () => {
        if (sender.target) emit('attached', { address: sender.target.address });
    });
    connection.on('sendable', () => {
        for (let credit = sender.credit; credit > 0 && sent < job.count; credit -= 1, sent += 1) {
            order.set(sender.send(encoded(sent), undefined, 0), sent);
        }
        if (job.settled && sent === job.count) whenWritten(sender, () => finish({ sent }));
    });
    onOutcome(sender, (outcome, delivery) => {
        emit('outcome', { index: order.get(delivery), ...remoteOutcome(outcome, delivery.remote_state) });
        if (!delivery.remote_settled) delivery.update(true);
        settled += 1;
        if (settled === job.count) finish({ sent });
    });
}

function onOutcome(sender, then) {
    for (const outcome of ['accepted', 'rejected', 'released', 'modified']) {
        sender.on(outcome, ({ delivery }) => then(outcome, delivery));
    }
}

// A pre-settled delivery has no event of its own: rhea has written it once its session has.
function whenWritten(sender, then) {
    const { outgoing } = sender.session;
    if (outgoing.next_pending_delivery === outgoing.next_delivery_id) then();
    else setImmediate(whenWritten, sender, then);
}

function remoteOutcome(outcome, state) {
    if (outcome === 'rejected') {
        const error = state.error || {};
        return { outcome, condition: error.condition, description: error.description };
    }
    if (outcome === 'modified') {
        return {
            outcome,
            delivery_failed: Boolean(state.delivery_failed),
            undeliverable_here: Boolean(state.undeliverable_here),
            annotations: state.message_annotations || {},
        };
    }
    return { outcome };
}

function attachReceiver(source) {
    const options = { source, autoaccept: false, credit_window: 0, rcv_settle_mode: job.rcv_settle_mode === 'second' ? 1 : 0 };
    if (job.link) options.name = job.link;
    const receiver = connection.open_receiver(options);
    receiver.on('receiver_open', () => {
        if (!receiver.source) return;
        receiver.add_credit(job.credit || 100);
        emit('attached', { address: receiver.source.address });
    });
    return receiver;
}

function receive(onMessage, onFinished) {
    connect();
    const state = { received: 0, pending: 0, onMessage };
    state.receiver = attachReceiver(job.dynamic ? { dynamic: true } : { address: job.address });
    listen(state, onFinished || (() => finish({ received: state.received })));
    return state;
}

function listen(state, onFinished) {
    const check = () => {
        if (job.count && state.received >= job.count && state.pending === 0) onFinished();
    };
    // Of links that the router attaches, too, if it may.
    (job.offered_capabilities ? connection : state.receiver).on('message', (context) => {
        const { delivery, receiver } = context;
        emit('message', { settled: delivery.remote_settled, ...described(context.message) });
        if (state.onMessage) state.onMessage(context.message);
        const outcomes = job.outcomes || [{ outcome: 'accepted' }];
        decide(delivery, outcomes[state.received % outcomes.length]);
        state.received += 1;
        if (!job.hold_credit) receiver.add_credit(1);
        if (job.rcv_settle_mode === 'second' && !delivery.remote_settled) state.pending += 1;
        else check();
    });
    state.receiver.on('settled', () => {
        if (job.rcv_settle_mode !== 'second') return;
        state.pending -= 1;
        emit('settled');
        check();
    });
}

function decide(delivery, { outcome, condition, description, delivery_failed, undeliverable_here, annotations }) {
    if (outcome === 'accepted') delivery.accept();
    if (outcome === 'released') delivery.release();
    if (outcome === 'rejected') delivery.reject({ condition, description });
    if (outcome === 'modified') delivery.modified({ delivery_failed, undeliverable_here, message_annotations: annotations });
}

// `drain`: more credit than there are messages, then drain; credit must come back 0.
function drain() {
    job.hold_credit = true;
    const state = receive(undefined, () => {});
    setTimeout(() => state.receiver.drain_credit(), (job.delay || 0.3) * 1000);
    state.receiver.on('receiver_drained', () => {
        emit('drained', { received: state.received });
        finish({ received: state.received });
    });
}

// `reattach`: receives `count`, closes or detaches the link, attaches it again by its name,
// receives `count` again.
function reattach() {
    const again = () => {
        emit('detached');
        setImmediate(() => {
            const second = { received: 0, pending: 0, receiver: attachReceiver({ address: job.address }) };
            listen(second, () => finish({ received: job.count * 2 }));
        });
    };
    const first = receive(undefined, () => (job.closed === false ? first.receiver.detach() : first.receiver.close()));
    first.receiver.on('receiver_close', again);
}

// `request`: asks `address` (or `to` by the anonymous relay), reads the answers.
function request() {
    job.dynamic = true;
    const state = receive();
    state.receiver.on('receiver_open', () => {
        const replyTo = state.receiver.source.address;
        const sender = connection.open_sender({ target: job.address ? { address: job.address } : {} });
        sender.on('sendable', () => {
            while (sender.credit > 0 && job.requests.length) {
                const { correlation_id, subject, body, application_properties } = job.requests.shift();
                const asked = { reply_to: replyTo, correlation_id, subject, body: requestBody(body) };
                if (application_properties) asked.application_properties = fromFields(application_properties);
                if (job.to) asked.to = job.to;
                sender.send(asked);
            }
        });
    });
}

function requestBody(typed) {
    return typed[0] === 'binary' ? message.data_section(Buffer.from(typed[1], 'hex')) : fromTyped(typed);
}

// `respond`: answers each message to its `reply-to`, through the anonymous relay.
function respond() {
    let answered = 0;
    let sender;
    const answer = (asked) => {
        const { reply_to: to, correlation_id, subject, body } = asked;
        sender.send({ to, correlation_id: correlation_id || asked.message_id, subject, body });
    };
    const state = receive(answer, () => {});
    sender = connection.open_sender({ target: {}, ...MODIFIED_STAYS_MODIFIED });
    onOutcome(sender, (outcome, delivery) => {
        emit('outcome', { index: answered, ...remoteOutcome(outcome, delivery.remote_state) });
        answered += 1;
        if (answered === job.count) finish({ received: state.received });
    });
}

// Messages: built from the typed description in a job, described in the same form on arrival.

function bodyOf(index, size) {
    const block = Buffer.from(Array.from({ length: 251 }, (_, i) => (i * 31 + index) % 251));
    return Buffer.alloc(size, size ? block : 0);
}

function encoded(index) {
    if (job.raw) return Buffer.from(job.raw, 'hex');
    const template = job.messages ? job.messages[index % job.messages.length] : {};
    const built = {};
    if (template.header) Object.assign(built, template.header);
    for (const section of ['delivery_annotations', 'message_annotations', 'application_properties', 'footer']) {
        if (template[section]) built[section] = fromFields(template[section]);
    }
    for (const [name, typed] of Object.entries(template.properties || {})) built[name] = propertyFromTyped(typed);
    if (!template.properties) built.subject = String(index);
    if (job.to) built.to = job.to;
    if (template.data !== undefined) built.body = message.data_section(Buffer.from(template.data, 'hex'));
    else if (template.value) built.body = fromTyped(template.value);
    else if (template.sequence) built.body = message.sequence_section(template.sequence.map(fromTyped));
    else {
        const sizes = job.sizes || [64];
        built.body = message.data_section(bodyOf(index, sizes[index % sizes.length]));
    }
    return message.encode(built);
}

function described(decoded) {
    const sections = readSections(decoded.encoded);
    const body = Buffer.concat((sections.data || []).map((section) => section.value));
    const properties = named(PROPERTIES, sections.properties);
    const header = Object.fromEntries(Object.entries(named(HEADER, sections.header)).map(([name, item]) => [name, item.value]));
    const fields = {
        size: body.length,
        sha256: crypto.createHash('sha256').update(body).digest('hex'),
        header,
        subject: decoded.subject,
        correlation_id: decoded.correlation_id,
        to: decoded.to,
    };
    if (job.describe) {
        const description = { header, properties: mapValues(properties, toTyped) };
        for (const name of ['delivery_annotations', 'message_annotations', 'application_properties', 'footer']) {
            if (sections[name]) description[name] = toFields(sections[name][0]);
        }
        if (sections.data) description.data = body.toString('hex');
        if (sections.sequence) description.sequence = sections.sequence[0].value.map(toTyped);
        if (sections.value) description.value = toTyped(undescribed(sections.value[0]));
        fields.message = description;
        fields.raw = decoded.encoded.toString('hex');
    }
    return fields;
}

const SECTIONS = {
    0x70: 'header', 0x71: 'delivery_annotations', 0x72: 'message_annotations', 0x73: 'properties',
    0x74: 'application_properties', 0x75: 'data', 0x76: 'sequence', 0x77: 'value', 0x78: 'footer',
};
const HEADER = ['durable', 'priority', 'ttl', 'first_acquirer', 'delivery_count'];
const PROPERTIES = [
    'message_id', 'user_id', 'to', 'subject', 'reply_to', 'correlation_id', 'content_type', 'content_encoding',
    'absolute_expiry_time', 'creation_time', 'group_id', 'group_sequence', 'reply_to_group_id',
];

function readSections(encodedMessage) {
    const reader = new types.Reader(encodedMessage);
    const sections = {};
    while (reader.remaining()) {
        const section = reader.read();
        const name = SECTIONS[section.descriptor.value];
        (sections[name] = sections[name] || []).push(section);
    }
    return sections;
}

function named(names, section) {
    const items = section ? section[0].value : [];
    return Object.fromEntries(items.map((item, i) => [names[i], item]).filter(([, item]) => item.value !== null));
}

function undescribed(item) {
    return Object.assign(Object.create(Object.getPrototypeOf(item)), item, { descriptor: undefined });
}

function mapValues(object, f) {
    return Object.fromEntries(Object.entries(object).map(([name, value]) => [name, f(value)]));
}

function fromFields(fields) {
    return mapValues(fields, fromTyped);
}

// rhea gives properties their types itself and wants plain values.
function propertyFromTyped([kind, value]) {
    if (kind === 'ulong') return Number(value);
    if (kind === 'binary' || kind === 'uuid') return Buffer.from(value, 'hex');
    return value;
}

function fromTyped([kind, value, second]) {
    switch (kind) {
    case 'null': return null;
    case 'list': return types.wrap_list(value.map(fromTyped));
    case 'map': return types.wrap_map_as_map(new Map(value.map(([k, v]) => [fromTyped(k), fromTyped(v)])));
    case 'array': return types.wrap_array(value.map((item) => item[1]), ARRAY_CODES[value[0][0]]);
    case 'described': return types.described(fromTyped(value), fromTyped(second));
    case 'boolean': return types.wrap_boolean(value);
    case 'ulong': return types.wrap_ulong(integer64(value, false));
    case 'long': return types.wrap_long(integer64(value, true));
    case 'binary': return types.wrap_binary(Buffer.from(value, 'hex'));
    case 'uuid': return types.wrap_uuid(Buffer.from(value, 'hex'));
    case 'decimal32': return types.Decimal32(Buffer.from(value, 'hex'));
    case 'decimal64': return types.Decimal64(Buffer.from(value, 'hex'));
    case 'decimal128': return types.Decimal128(Buffer.from(value, 'hex'));
    default: return types['wrap_' + kind](value);
    }
}

const ARRAY_CODES = { int: 0x71, string: 0xb1, symbol: 0xb3 };

// rhea takes numbers up to 2^53 and buffers beyond.
function integer64(text, signed) {
    const value = BigInt(text);
    if (value >= -(2n ** 53n) && value <= 2n ** 53n) return Number(value);
    const buffer = Buffer.alloc(8);
    if (signed) buffer.writeBigInt64BE(value);
    else buffer.writeBigUInt64BE(value);
    return buffer;
}

function toFields(section) {
    const fields = {};
    for (let i = 0; i + 1 < section.value.length; i += 2) fields[section.value[i].value] = toTyped(section.value[i + 1]);
    return fields;
}

function toTyped(item) {
    if (item.descriptor) {
        return ['described', toTyped(item.descriptor), toTyped(undescribed(item))];
    }
    const kind = KINDS[item.type.typecode];
    const { value } = item;
    switch (kind) {
    case 'null': return ['null'];
    case 'list': return ['list', value.map(toTyped)];
    case 'map': {
        const pairs = [];
        for (let i = 0; i + 1 < value.length; i += 2) pairs.push([toTyped(value[i]), toTyped(value[i + 1])]);
        return ['map', pairs];
    }
    case 'array': {
        const of = KINDS[item.array_constructor.typecode];
        return ['array', value.map((element) => [of, element.value])];
    }
    case 'ulong': return [kind, String(Buffer.isBuffer(value) ? value.readBigUInt64BE() : value)];
    case 'long': return [kind, String(Buffer.isBuffer(value) ? value.readBigInt64BE() : value)];
    case 'timestamp': return [kind, value.getTime()];
    case 'binary': case 'uuid': case 'decimal32': case 'decimal64': case 'decimal128': return [kind, value.toString('hex')];
    case 'boolean': return [kind, Boolean(value)];
    default: return [kind, value];
    }
}

const KINDS = {
    0x40: 'null', 0x56: 'boolean', 0x41: 'boolean', 0x42: 'boolean', 0x50: 'ubyte', 0x60: 'ushort', 0x70: 'uint',
    0x52: 'uint', 0x43: 'uint', 0x80: 'ulong', 0x53: 'ulong', 0x44: 'ulong', 0x51: 'byte', 0x61: 'short', 0x71: 'int',
    0x54: 'int', 0x81: 'long', 0x55: 'long', 0x72: 'float', 0x82: 'double', 0x74: 'decimal32', 0x84: 'decimal64',
    0x94: 'decimal128', 0x73: 'char', 0x83: 'timestamp', 0x98: 'uuid', 0xa0: 'binary', 0xb0: 'binary', 0xa1: 'string',
    0xb1: 'string', 0xa3: 'symbol', 0xb3: 'symbol', 0x45: 'list', 0xc0: 'list', 0xd0: 'list', 0xc1: 'map', 0xd1: 'map',
    0xe0: 'array', 0xf0: 'array',
};

({ connect: probe, send, receive, request, respond, drain, reattach })[job.operation]();
