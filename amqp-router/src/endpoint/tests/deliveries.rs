//! Transfers and their outcomes (AMQP 2.6.12, 2.7.5, 2.7.6; C-63 to C-81).

use super::pair::Pair;
use crate::codec::{DeliveryState, Role};

#[test]
fn a_message_is_sent_and_accepted() {
    for byte_by_byte in [false, true] {
        let (mut pair, link) = Pair::attached(Role::Sender);
        pair.byte_by_byte = byte_by_byte;
        pair.server.connection.set_credit(link.server, 10);
        pair.drive();
        assert_eq!(pair.client.connection.sendable(link.client).credit, 10);
        let sent = pair
            .client
            .send(link.client, false, "hello")
            .expect("there is credit");
        pair.drive();
        assert_eq!(pair.server.bodies(), ["hello"]);
        let delivery = pair.server.deliveries()[0];
        pair.server
            .connection
            .update(delivery, Some(&DeliveryState::Accepted), true);
        pair.drive();
        assert_eq!(
            pair.client.updates(),
            [(sent, Some(DeliveryState::Accepted), true)]
        );
        pair.client.connection.detach(link.client, true, None);
        pair.client.connection.end(link.session, None);
        pair.client.connection.close(None, pair.now);
        pair.drive();
        assert!(pair.client.connection.is_finished() && pair.server.connection.is_finished());
    }
}
