//! A router inside a program, with a sender and a receiver that never leave it.
//!
//! `cargo run -p amqp-router --example embedded`

use amqp_router::{Config, Message, Router};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let router = Router::start(Config::new("embedded"))?;
    let mut receiver = router.receiver("greetings", 10).await?;
    let mut sender = router.sender("greetings").await?;

    let receiving = tokio::spawn(async move {
        let delivery = receiver.recv().await?;
        println!(
            "received {:?}",
            delivery.message().map(|message| message.body)
        );
        delivery.accept();
        Ok::<_, amqp_router::LinkError>(())
    });
    let outcome = sender.send(&Message::of_value("hello")).await?;
    println!("the receiver's outcome is {outcome:?}");

    receiving.await??;
    router.stop().await;
    Ok(())
}
