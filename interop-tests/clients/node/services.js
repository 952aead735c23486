'use strict';
// Services that know nothing of AMQP, and their clients, by protocol.
//
//   node services.js serve PROTOCOL       prints {"port": …} when it listens, and serves until killed
//   node services.js ask PROTOCOL PORT    does what the protocol is for, and checks what comes back
//
// A client prints {"done": …}, what it has seen; if that is not what it should be, it ends with 1.

const assert = require('node:assert');
const crypto = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const http2 = require('node:http2');
const { once } = require('node:events');

const LARGE = Buffer.alloc(300000, 'large ');

function listening(server) {
    return new Promise((resolve, reject) => {
        server.once('error', reject);
        server.listen(0, '127.0.0.1', () => resolve(server.address().port));
    });
}

async function text(stream) {
    const pieces = [];
    for await (const piece of stream) pieces.push(piece);
    return Buffer.concat(pieces).toString();
}

// Both versions of HTTP: the same resources.
async function answer(request, response) {
    const body = await text(request);
    switch (request.url) {
    case '/hello':
        return response.end('hello');
    case '/echo':
        response.writeHead(201);
        // In pieces, and so chunked.
        for (let at = 0; at < body.length; at += 50000) response.write(body.slice(at, at + 50000));
        return response.end();
    case '/nothing':
        response.writeHead(204);
        return response.end();
    case '/slow':
        await new Promise((resolve) => setTimeout(resolve, 300));
        return response.end('slow');
    default:
        response.writeHead(404);
        return response.end('nothing here');
    }
}

const http1Client = {
    get(port, agent, method, path, body, headers = {}) {
        return new Promise((resolve, reject) => {
            const options = { host: '127.0.0.1', port, agent, method, path, headers };
            const request = http.request(options, async (response) => {
                resolve([response.statusCode, await text(response)]);
            });
            request.on('error', reject);
            request.end(body);
        });
    },
};

function http2Request(session, headers, body) {
    return new Promise((resolve, reject) => {
        const stream = session.request(headers, { endStream: body === undefined });
        stream.on('error', reject);
        stream.on('response', async (response) => {
            resolve([response[':status'], await text(stream)]);
        });
        if (body !== undefined) stream.end(body);
    });
}

async function askHttp2(session) {
    const [hello, echoed, missing] = await Promise.all([
        http2Request(session, { ':path': '/hello', 'x-forwarded-for': '10.7.7.7, 10.0.0.1' }),
        http2Request(session, { ':path': '/echo', ':method': 'POST' }, LARGE),
        http2Request(session, { ':path': '/missing' }),
    ]);
    assert.deepStrictEqual(hello, [200, 'hello']);
    assert.deepStrictEqual(echoed, [201, LARGE.toString()]);
    assert.deepStrictEqual(missing, [404, 'nothing here']);
    // Fields that were sent before go as numbers now.
    const again = await http2Request(session, { ':path': '/hello', 'x-forwarded-for': '10.7.7.7, 10.0.0.1' });
    assert.deepStrictEqual(again, [200, 'hello']);
    session.close();
    await once(session, 'close');
    return 'http2';
}

const grpcService = {
    Reverse: {
        path: '/test.Words/Reverse',
        requestStream: false,
        responseStream: false,
        requestSerialize: (text) => Buffer.from(text),
        requestDeserialize: (octets) => octets.toString(),
        responseSerialize: (text) => Buffer.from(text),
        responseDeserialize: (octets) => octets.toString(),
    },
};
grpcService.Chat = { ...grpcService.Reverse, path: '/test.Words/Chat', requestStream: true, responseStream: true };
const reversed = (text) => [...text].reverse().join('');

const protocols = {
    http1: {
        serve: () => listening(http.createServer(answer)),
        async ask(port) {
            const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
            const ask = (...rest) => http1Client.get(port, agent, ...rest);
            const forwarded = { 'X-Forwarded-For': '10.7.7.7, 10.0.0.1' };
            assert.deepStrictEqual(await ask('GET', '/hello', undefined, forwarded), [200, 'hello']);
            assert.deepStrictEqual(await ask('POST', '/echo', LARGE), [201, LARGE.toString()]);
            const chunked = { 'Transfer-Encoding': 'chunked' };
            assert.deepStrictEqual(await ask('PUT', '/echo', 'in chunks', chunked), [201, 'in chunks']);
            assert.deepStrictEqual(await ask('HEAD', '/hello'), [200, '']);
            assert.deepStrictEqual(await ask('DELETE', '/nothing'), [204, '']);
            assert.deepStrictEqual(await ask('GET', '/missing'), [404, 'nothing here']);
            agent.destroy();
            return 'http1';
        },
    },
    http2: {
        serve: () => listening(http2.createServer(answer)),
        ask: (port) => askHttp2(http2.connect(`http://127.0.0.1:${port}`)),
    },
    // The same by TLS, which is the listener's; the fourth argument is the authority's certificate.
    https: {
        ask(port, ca) {
            return askHttp2(http2.connect(`https://127.0.0.1:${port}`, { ca: fs.readFileSync(ca) }));
        },
    },
    // A connection with a request that is being answered, until it is killed.
    'http1-slow': {
        async ask(port) {
            const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
            for (;;) {
                await http1Client.get(port, agent, 'GET', '/slow');
            }
        },
    },
    grpc: {
        async serve() {
            const grpc = require('@grpc/grpc-js');
            const server = new grpc.Server();
            server.addService(grpcService, {
                Reverse: (call, callback) => callback(null, reversed(call.request)),
                Chat: (call) => {
                    call.on('data', (word) => call.write(reversed(word)));
                    call.on('end', () => call.end());
                },
            });
            const bind = server.bindAsync.bind(server);
            const { promisify } = require('node:util');
            return promisify(bind)('127.0.0.1:0', grpc.ServerCredentials.createInsecure());
        },
        async ask(port) {
            const grpc = require('@grpc/grpc-js');
            const Words = grpc.makeGenericClientConstructor(grpcService, 'Words');
            const client = new Words(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
            const { promisify } = require('node:util');
            const reverse = promisify(client.Reverse.bind(client));
            assert.strictEqual(await reverse('desserts'), 'stressed');
            const words = Array.from({ length: 500 }, (_, number) => `word ${number} `.repeat(20));
            const chat = client.Chat();
            const heard = [];
            chat.on('data', (word) => heard.push(word));
            for (const word of words) chat.write(word);
            chat.end();
            await once(chat, 'end');
            assert.deepStrictEqual(heard, words.map(reversed));
            client.close();
            return 'grpc';
        },
    },
    postgres: {
        async serve() {
            const { PGlite } = require('@electric-sql/pglite');
            const { PGLiteSocketServer } = require('@electric-sql/pglite-socket');
            const db = await PGlite.create();
            const server = new PGLiteSocketServer({ db, port: 0, host: '127.0.0.1' });
            await server.start();
            return Number(server.getServerConn().split(':').pop());
        },
        async ask(port) {
            const { Client } = require('pg');
            const client = new Client({ host: '127.0.0.1', port, user: 'postgres', database: 'postgres' });
            await client.connect();
            await client.query('CREATE TABLE numbers (number int PRIMARY KEY, word text)');
            const insert = 'INSERT INTO numbers SELECT n, repeat(n::text, 100) FROM generate_series(1, $1::int) AS n';
            await client.query(insert, [5000]);
            const { rows } = await client.query('SELECT * FROM numbers ORDER BY number');
            assert.strictEqual(rows.length, 5000);
            assert.ok(rows.every(({ number, word }, at) => number === at + 1 && word === `${number}`.repeat(100)));
            await assert.rejects(client.query('INSERT INTO numbers VALUES (1, NULL)'), { code: '23505' });
            await client.end();
            return 'postgres';
        },
    },
    mqtt: {
        async serve() {
            const { Aedes } = require('aedes');
            const broker = Aedes.createBroker ? await Aedes.createBroker() : new Aedes();
            return listening(require('node:net').createServer(broker.handle));
        },
        async ask(port) {
            const mqtt = require('mqtt');
            const url = `mqtt://127.0.0.1:${port}`;
            const [subscriber, publisher] = await Promise.all([mqtt.connectAsync(url), mqtt.connectAsync(url)]);
            await subscriber.subscribeAsync('words/#', { qos: 1 });
            const heard = [];
            subscriber.on('message', (topic, message) => heard.push([topic, message.toString()]));
            for (let number = 0; number < 100; number += 1) {
                await publisher.publishAsync(`words/${number}`, `word ${number}`, { qos: 1 });
            }
            while (heard.length < 100) await once(subscriber, 'message');
            assert.ok(heard.every(([topic, word], at) => topic === `words/${at}` && word === `word ${at}`));
            await Promise.all([subscriber.endAsync(), publisher.endAsync()]);
            return 'mqtt';
        },
    },
    ssh: {
        serve() {
            const { Server } = require('ssh2');
            const { privateKey } = crypto.generateKeyPairSync('rsa', {
                modulusLength: 2048,
                privateKeyEncoding: { type: 'pkcs1', format: 'pem' },
                publicKeyEncoding: { type: 'pkcs1', format: 'pem' },
            });
            const server = new Server({ hostKeys: [privateKey] }, (client) => {
                client.on('error', () => {});
                client.on('authentication', (login) => {
                    const right = login.method === 'password' && login.password === 'of a test';
                    return right ? login.accept() : login.reject(['password']);
                });
                client.on('session', (accept) => {
                    accept().on('exec', (accept) => {
                        const stream = accept();
                        stream.pipe(stream, { end: false });
                        stream.on('end', () => {
                            stream.exit(7);
                            stream.end();
                        });
                    });
                });
            });
            return listening(server);
        },
        ask(port) {
            const { Client } = require('ssh2');
            return new Promise((resolve, reject) => {
                const client = new Client();
                client.on('error', reject);
                client.on('ready', () => {
                    client.exec('cat', async (error, stream) => {
                        if (error) return reject(error);
                        const left = Promise.all([once(stream, 'exit'), once(stream, 'close')]);
                        const pieces = [];
                        stream.on('data', (piece) => pieces.push(piece));
                        stream.end(LARGE);
                        const [[code]] = await left;
                        assert.ok(Buffer.concat(pieces).equals(LARGE));
                        assert.strictEqual(code, 7);
                        client.end();
                        resolve('ssh');
                    });
                });
                client.connect({ host: '127.0.0.1', port, username: 'alice', password: 'of a test' });
            });
        },
    },
};

async function main([what, protocol, ...rest]) {
    const { serve, ask } = protocols[protocol];
    if (what === 'serve') {
        console.log(JSON.stringify({ port: await serve() }));
    } else {
        console.log(JSON.stringify({ done: await ask(Number(rest[0]), ...rest.slice(1)) }));
        process.exit(0);
    }
}

process.on('unhandledRejection', (error) => {
    console.error(error);
    process.exit(1);
});
main(process.argv.slice(2));
