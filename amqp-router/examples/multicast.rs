//! One message to every receiver of an address, and the one outcome that comes back for all.
//!
//! `cargo run -p amqp-router --example multicast`

use amqp_router::{Config, DeliveryState, Distribution, Message, Router};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::new("multicast").distribute("news", Distribution::Multicast);
    let router = Router::start(config)?;
    let mut readers = Vec::new();
    for name in ["first", "second", "third"] {
        let mut receiver = router.receiver("news/today", 10).await?;
        readers.push(tokio::spawn(async move {
            let delivery = receiver.recv().await?;
            println!(
                "the {name} reader got {:?}",
                delivery.message().map(|m| m.body)
            );
            delivery.accept();
            Ok::<_, amqp_router::LinkError>(())
        }));
    }

    let mut sender = router.sender("news/today").await?;
    let outcome = sender.send(&Message::of_value("it works")).await?;
    assert_eq!(outcome, Some(DeliveryState::Accepted));
    for reader in readers {
        reader.await??;
    }
    router.stop().await;
    Ok(())
}
