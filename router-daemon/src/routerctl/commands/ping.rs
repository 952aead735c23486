//! `ping`: how long a router's agent takes to answer.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::time::{Instant, sleep};

use super::Context;
use crate::client::Agent;
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
            let line = answered(&context.agent, number, time);
            context.output.text(&line)?;
        }
    }
    match context.output.json {
        true => context.output.document(&document(&times)),
        false => context.output.text(&summary(&times)),
    }
}

fn answered(agent: &Agent, number: u64, time: Duration) -> String {
    format!("{agent} answers {number}: {:.3} ms\n", ms(time))
}

fn summary(times: &[Duration]) -> String {
    let [least, mean, most] = figures(times);
    format!("least {least:.3} ms, mean {mean:.3} ms, most {most:.3} ms\n")
}

fn document(times: &[Duration]) -> Json {
    let [least, mean, most] = figures(times);
    let times: Vec<f64> = times.iter().copied().map(ms).collect();
    json!({"times": times, "least": least, "mean": mean, "most": most})
}

/// The least, the mean and the most.
fn figures(times: &[Duration]) -> [f64; 3] {
    let sum: Duration = times.iter().sum();
    let mean = ms(sum) / times.len() as f64;
    let least = times.iter().min().copied().map_or(0.0, ms);
    let most = times.iter().max().copied().map_or(0.0, ms);
    [least, mean, most]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::golden::check;

    #[test]
    fn times_are_told_one_by_one_and_in_sum() {
        let times = [1500, 250, 12_000].map(Duration::from_micros);
        let mut text = String::new();
        for (agent, time) in [
            (Agent::Connected, times[0]),
            (Agent::Router("far".into()), times[1]),
            (Agent::Edge("leaf".into()), times[2]),
        ] {
            text += &answered(&agent, 1, time);
        }
        text += &summary(&times);
        check("ping.txt", &text);
        check("ping.json", &format!("{:#}\n", document(&times)));
    }
}
