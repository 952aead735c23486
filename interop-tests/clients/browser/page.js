'use strict';
// Echoes what comes to `to-the-page` to `from-the-page`, by AMQP over the WebSocket of the router
// that served this page, and says `ready` there once it can.

const rhea = window.rheaUmd || require('rhea');
const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
const open = rhea.websocket_connect(WebSocket);
const connection = rhea.connect({
    connection_details: open(`${scheme}://${location.host}/`, ['amqp']),
    container_id: 'page',
    reconnect: false,
});
const sender = connection.open_sender('from-the-page');
sender.once('sendable', () => {
    const receiver = connection.open_receiver('to-the-page');
    receiver.once('receiver_open', () => sender.send({ body: 'ready' }));
    receiver.on('message', (context) => sender.send({ body: context.message.body }));
});
