//! `ping`: how long a router's agent takes to answer.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::Context;
use crate::failure::Outcome;
use crate::options::Ping;

pub(crate) async fn run(context: &mut Context, ping: &Ping) -> Outcome {
    let mut times = Vec::new();
    for number in 1..=ping.count {
        if number > 1 {
            sleep(ping.interval).await;
        }
        let asked = Instant::now();
        context.client.ping(&context.agent).await?;
        let time = asked.elapsed();
        times.push(time);
        if !context.output.json {
            let line = format!("{} answers {number}: {:.3} ms\n", context.agent, ms(time));
            context.output.text(&line)?;
        }
    }
    let sum: Duration = times.iter().sum();
    let mean = ms(sum) / times.len() as f64;
    let least = times.iter().min().copied().map_or(0.0, ms);
    let most = times.iter().max().copied().map_or(0.0, ms);
    if context.output.json {
        let times: Vec<f64> = times.into_iter().map(ms).collect();
        let summary = json!({"times": times, "least": least, "mean": mean, "most": most});
        return context.output.document(&summary);
    }
    let line = format!("least {least:.3} ms, mean {mean:.3} ms, most {most:.3} ms\n");
    context.output.text(&line)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
